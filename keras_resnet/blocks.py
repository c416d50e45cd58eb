"""From data to layers: convolution, batch norm, shortcut and the residual unit in its two orders.

Every function takes a tensor and gives a tensor. Layers are named by their place: `stage2_block1_conv1`,
`stage2_block1_bn1`, `stage2_block1_shortcut_conv`; weights of others find their layer by these names.
"""

from typing import NamedTuple

import keras

from keras_resnet.architectures import STEMS, Architecture, Convolution, Unit
from keras_resnet.layers import BatchNormalization, VarianceScaling


class Options(NamedTuple):
    """What every layer of one model has in common."""

    dtype: keras.DTypePolicy
    sync_batch_norm: bool


def channel_axis() -> int:
    """Axis of the channels in Keras's image data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def he_normal() -> keras.initializers.Initializer:
    """The paper's initialisation [13], untruncated, by fan-out as torchvision has it; [13] allows either fan.

    A new object each time: Keras gives every layer that shares an unseeded initialiser the same values.
    """
    return VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def convolve(x, convolution: Convolution, name: str, options: Options, zeros: bool = False):
    """A convolution without bias that sees the pixels it would see in Caffe and PyTorch.

    With stride 2, `padding="same"` pads an even input on one side only. So the padding is written out there.
    """
    filters, kernel, stride, groups = convolution
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, dtype=options.dtype, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        groups=groups,
        use_bias=False,
        kernel_initializer="zeros" if zeros else he_normal(),
        dtype=options.dtype,
        name=name,
    )(x)


def batch_norm(x, name: str, options: Options, zeros: bool = False):
    """Batch normalisation; momentum 0.9 (the reference implementation's) and epsilon 1e-5."""
    return BatchNormalization(
        axis=channel_axis(),
        momentum=0.9,
        epsilon=1e-5,
        gamma_initializer="zeros" if zeros else "ones",
        synchronized=options.sync_batch_norm,
        dtype=options.dtype,
        name=name,
    )(x)


def relu(x, name: str, options: Options):
    """ReLU."""
    return keras.layers.Activation("relu", dtype=options.dtype, name=name)(x)


def stem(x, architecture: Architecture, options: Options):
    """What comes before the first stage. Under pre-activation its last convolution is left as it is."""
    convolutions, max_pool = STEMS[architecture.stem][:2]
    for i, convolution in enumerate(convolutions, 1):
        number = i if len(convolutions) > 1 else ""
        x = convolve(x, convolution, f"stem_conv{number}", options)
        if not architecture.preactivation or i < len(convolutions):
            x = relu(batch_norm(x, f"stem_bn{number}", options), f"stem_relu{number}", options)
    if max_pool:
        if architecture.preactivation:
            # No ReLU came before, so a zero could win: repeating the edge is what padding by minus infinity does.
            x = keras.ops.pad(x, _paddings(spatial=(1, 1)), mode="symmetric")
        else:
            x = keras.layers.ZeroPadding2D(1, dtype=options.dtype, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, strides=2, dtype=options.dtype, name="stem_pool")(x)
    return x


def residual_unit(x, unit: Unit, architecture: Architecture, options: Options):
    """One residual unit: `relu(x + F(x))` as in 2015, or `x + F(x)` with the activations in F as in 2016."""
    order = _preactivated if architecture.preactivation else _postactivated
    return order(x, unit, architecture, f"stage{unit.stage}_block{unit.block}", options)


def _postactivated(x, unit: Unit, architecture: Architecture, name: str, options: Options):
    y = x
    for i, convolution in enumerate(unit.convolutions, 1):
        if i > 1:
            y = relu(y, f"{name}_relu{i - 1}", options)
        y = convolve(y, convolution, f"{name}_conv{i}", options)
        zeros = architecture.zero_init_residual and i == len(unit.convolutions)
        y = batch_norm(y, f"{name}_bn{i}", options, zeros)
    return relu(_join(x, y, unit, architecture, name, options), f"{name}_out", options)


def _preactivated(x, unit: Unit, architecture: Architecture, name: str, options: Options):
    y = x
    for i, convolution in enumerate(unit.convolutions, 1):
        y = relu(batch_norm(y, f"{name}_bn{i}", options), f"{name}_relu{i}", options)
        if unit.block == 1 and i == 1:
            x = y  # a stage's first unit is activated before it splits in two (He et al. 2016, appendix)
        zeros = architecture.zero_init_residual and i == len(unit.convolutions)
        y = convolve(y, convolution, f"{name}_conv{i}", options, zeros)
    return _join(x, y, unit, architecture, name, options)


def _join(x, y, unit: Unit, architecture: Architecture, name: str, options: Options):
    """Adds the residual function's result `y` to what the shortcut carries; in a plain network `y` is all there is."""
    if architecture.squeeze_excite:
        y = squeeze_excite(y, architecture.squeezed(unit.channels), f"{name}_se", options)
    if architecture.shortcut == "none":
        return y
    y = drop_path(y, unit.drop_rate, f"{name}_drop", options)
    x = shortcut(x, unit, architecture, f"{name}_shortcut", options)
    # The shortcut goes first: Keras walks a graph along the first input, and that way is the shorter one.
    return keras.layers.Add(dtype=options.dtype, name=f"{name}_add")([x, y])


def shortcut(x, unit: Unit, architecture: Architecture, name: str, options: Options):
    """The shortcut of one unit: the input itself, with zero channels (A), or a 1x1 convolution (B, C)."""
    if architecture.projects(unit):
        stride = unit.stride
        if stride > 1 and architecture.downsample == "average":
            # "same" pads an odd edge at its end and leaves the padding out of the average.
            x = keras.layers.AveragePooling2D(stride, padding="same", dtype=options.dtype, name=f"{name}_pool")(x)
            stride = 1
        x = convolve(x, Convolution(unit.channels, 1, stride), f"{name}_conv", options)
        return x if architecture.preactivation else batch_norm(x, f"{name}_bn", options)
    if unit.stride > 1:
        x = keras.layers.AveragePooling2D(1, strides=unit.stride, dtype=options.dtype, name=f"{name}_stride")(x)
    zeros = unit.channels - unit.channels_in
    if zeros:
        ahead = zeros // 2 if architecture.zero_channels == "around" else 0
        x = keras.ops.pad(x, _paddings(channels=(ahead, zeros - ahead)))
    return x


def squeeze_excite(x, channels: int, name: str, options: Options):
    """Scales each channel by a gate that sees all of them (Hu et al. 2018)."""
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=options.dtype, name=f"{name}_pool")(x)
    for step, filters, activation in (("reduce", channels, "relu"), ("expand", x.shape[channel_axis()], "sigmoid")):
        gate = keras.layers.Conv2D(
            filters,
            1,
            activation=activation,
            kernel_initializer=he_normal(),
            dtype=options.dtype,
            name=f"{name}_{step}",
        )(gate)
    return keras.layers.Multiply(dtype=options.dtype, name=f"{name}_scale")([x, gate])


def drop_path(x, rate: float, name: str, options: Options):
    """Stochastic depth: in training, an example goes without this branch at the given rate (Huang et al. 2016)."""
    if not rate:
        return x
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), dtype=options.dtype, name=name)(x)


def _paddings(spatial: tuple[int, int] = (0, 0), channels: tuple[int, int] = (0, 0)) -> list[tuple[int, int]]:
    paddings = [(0, 0), spatial, spatial]
    paddings.insert(3 if channel_axis() == -1 else 1, channels)
    return paddings
