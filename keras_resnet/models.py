"""The builder and the public constructors: from a row of data to a `keras.Model`.

`build` makes any `Architecture`; `keras_resnet.ResNet50`, `.Plain34`, `.ResNet20` ... are the table's rows by name.
The models are functional models of stock Keras layers, so all that Keras can do with a model, it can do with these.
"""

import dataclasses
import fnmatch
import functools
import inspect
import itertools
import numbers
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import keras

from keras_resnet import blocks
from keras_resnet.architectures import NAMED, Architecture, Unit, nearest, network_name, normalized
from keras_resnet.layers import VarianceScaling
from keras_resnet.weights import find, load_weights

# Keras recurses along a graph, and a flat graph of several hundred blocks runs into Python's limit, when it is built
# and again wherever its file is opened. So a stage deeper than this is a chain of nested models.
_BLOCKS_PER_MODEL = 50


def build(
    architecture: Architecture,
    include_top: bool = True,
    weights: str | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    *,
    features: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    sync_batch_norm: bool = False,
    load_head: bool = True,
) -> keras.Model:
    """Builds the network that an `Architecture` describes.

    Args:
        architecture: the network, as data.
        include_top: whether global average pooling and the classifier come last.
        weights: None for random initialisation; the tag of published weights (`"imagenet"`: the best that is published
            for this architecture; see `keras_resnet.weights.list`); or the path of a file: Keras's `.weights.h5`,
            `.keras` and `.h5`, `.safetensors`, a PyTorch state dict, `.npz`.
        input_tensor: a Keras tensor to use as the input (the output of `keras.Input`, or of other layers).
        input_shape: `(height, width, channels)` in Keras's image data format; height and width may be None. Default:
            the size that the network is made for, or `(None, None, 3)` without top.
        pooling: without top: None for the 4-D features, `"avg"` or `"max"` for pooled ones.
        classes: number of classes; the data set's that the architecture is made for if None.
        classifier_activation: activation of the classifier; None for logits.
        name: name of the model.
        features: return the stages' outputs, a dict `{"stage1": ..., "stage4": ...}` (ImageNet: strides 4, 8, 16, 32;
            CIFAR: 1, 2, 4), instead of a classification. The last one is what the head would have pooled.
        dtype: dtype policy of this model only, such as `"mixed_bfloat16"`; the head keeps float32, the variables' type.
        sync_batch_norm: whether batch norms take their moments over all replicas (TensorFlow only).
        load_head: whether `weights` are loaded into the classifier too. False leaves it at its initialisation, as
            weights for other classes need it; without top there is none to load.

    Returns:
        A functional `keras.Model`: `(batch, height, width, channels)` to `(batch, classes)`; to
        `(batch, height / stride, width / stride, channels)` without top, `(batch, channels)` with `pooling`.

    Example:
    >>> architecture = keras_resnet.Architecture(stem="cifar", depths=(2, 2, 2), widths=(16, 32, 64))
    >>> keras_resnet.build(architecture, classes=5).output_shape
    (None, 5)
    """
    classes = _check_head(architecture, classes, pooling, features)
    load_head = load_head and include_top and not features
    found = None if weights is None else find(weights, architecture, load_head, classes)
    inputs, x = _input(architecture, input_tensor, input_shape, include_top and not features)
    options = blocks.Options(keras.dtype_policies.get(dtype or keras.config.dtype_policy()), sync_batch_norm)

    x = blocks.stem(x, architecture, options)
    stages = {}
    for stage, units in itertools.groupby(architecture.units(), lambda unit: unit.stage):
        x = stages[f"stage{stage}"] = _stage(x, list(units), architecture, options)
    if architecture.preactivation:
        x = blocks.relu(blocks.batch_norm(x, "head_bn", options), "head_relu", options)
        stages[f"stage{len(stages)}"] = x

    if features:
        outputs = stages
    elif include_top:
        outputs = _classify(_pool(x, "avg", options), classes, classifier_activation, options)
    else:
        outputs = _pool(x, pooling, options) if pooling else x
    model = keras.Model(inputs, outputs, name=name or "residual_network")
    if found is not None:
        load_weights(model, found, load_head)
    return model


def _check_head(architecture: Architecture, classes, pooling, features: bool) -> int:
    if not isinstance(architecture, Architecture):
        raise TypeError(
            "`architecture` must be a keras_resnet.Architecture; get_model() takes names. "
            f"Received: a {type(architecture).__name__}."
        )
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}." + nearest(pooling, ("avg", "max"))
        )
    if features and pooling:
        raise ValueError(f"`features=True` returns 4-D features; leave `pooling` out. Received: pooling={pooling!r}.")
    classes = architecture.classes if classes is None else classes
    if not isinstance(classes, numbers.Integral) or classes < 1:
        raise ValueError(f"`classes` must be a whole number of 1 or more. Received: classes={classes!r}.")
    return classes


def _input(architecture: Architecture, input_tensor, input_shape, include_top: bool):
    """The model's inputs, and the tensor that the stem is put on."""
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise TypeError(
            "`input_tensor` must be a Keras tensor, such as keras.Input((224, 224, 3)). "
            f"Received: a {type(input_tensor).__name__}."
        )
    axis = blocks.channel_axis()
    if input_tensor is not None:
        if input_shape is not None and tuple(input_shape) != tuple(input_tensor.shape[1:]):
            raise ValueError(
                "`input_shape` and `input_tensor` disagree; leave one of them out. "
                f"Received: input_shape={input_shape}, input_tensor of shape {input_tensor.shape}."
            )
        input_shape = input_tensor.shape[1:]
    elif input_shape is None:
        edge = architecture.image_size if include_top else None
        input_shape = (edge, edge, 3) if axis == -1 else (3, edge, edge)
    if len(input_shape) != 3 or not input_shape[axis if axis == -1 else 0]:
        order = "(height, width, channels)" if axis == -1 else "(channels, height, width)"
        raise ValueError(f"`input_shape` must be {order}; only height and width may be None. Received: {input_shape}.")
    _check_size(architecture, input_shape[:2] if axis == -1 else input_shape[1:])
    if input_tensor is None:
        input_tensor = keras.Input(input_shape, name="image")
        return input_tensor, input_tensor
    sources = keras.utils.get_source_inputs(input_tensor)
    return sources[0] if len(sources) == 1 else sources, input_tensor


def _check_size(architecture: Architecture, size: Iterable[int | None]):
    edge = min((edge for edge in size if edge is not None), default=None)
    stride = architecture.stride
    if edge is not None and edge < stride:
        raise ValueError(
            f"The network divides the image by {stride}: height and width must be at least {stride}. "
            f"Received: {tuple(size)}." + (" For small images take a CIFAR network (ResNet20)." if stride > 4 else "")
        )
    if edge == stride > 4:
        warnings.warn(
            f"This network is made for {architecture.image_size}-pixel images: of {tuple(size)} its last stage sees a "
            "single pixel. For 32-pixel images take a CIFAR network, such as keras_resnet.ResNet20 or ResNet56.",
            stacklevel=_outside_this_file(),
        )


def _outside_this_file() -> int:
    """The `stacklevel` at which a warning points at the caller's line instead of ours."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_code.co_filename == __file__:
        frame, level = frame.f_back, level + 1
    return level


def _stage(x, units: list[Unit], architecture: Architecture, options: blocks.Options):
    if len(units) <= _BLOCKS_PER_MODEL:
        for unit in units:
            x = blocks.residual_unit(x, unit, architecture, options)
        return x
    for start in range(0, len(units), _BLOCKS_PER_MODEL):
        part = units[start : start + _BLOCKS_PER_MODEL]
        inputs = keras.Input(x.shape[1:], dtype=x.dtype)
        outputs = _stage(inputs, part, architecture, options)
        x = keras.Model(inputs, outputs, name=f"stage{part[0].stage}_blocks{part[0].block}to{part[-1].block}")(x)
    return x


def _pool(x, pooling: str, options: blocks.Options):
    layer = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]
    return layer(dtype=options.dtype.variable_dtype, name="head_pool")(x)


def _classify(x, classes: int, activation, options: blocks.Options):
    # The paper initialises "as in [13]"; here by fan-in: by fan-out 10 classes would start with logits of 3 sigma.
    initializer = VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")
    return keras.layers.Dense(
        classes,
        activation=activation,
        kernel_initializer=initializer,
        dtype=options.dtype.variable_dtype,
        name="predictions",
    )(x)


def dense_head(model: keras.Model) -> keras.Model:
    """The fully-convolutional form of a model: its classifier applied at every position, by the very same layers.

    This is the paper's test on whole images (section 3.4): average the result over height and width.

    Args:
        model: a model of this package with its top.

    Returns:
        A `keras.Model` of `(batch, height, width, channels)` to `(batch, height / stride, width / stride, classes)`.
        Its variables are the model's own.

    Example:
    >>> dense = keras_resnet.dense_head(keras_resnet.ResNet50(input_shape=(None, None, 3)))
    >>> dense.output_shape
    (None, None, None, 1000)
    """
    try:
        pool, classifier = model.get_layer("head_pool"), model.get_layer("predictions")
    except ValueError:
        raise ValueError(
            "`dense_head` needs a model of this package with its top (include_top=True). "
            f"Received: {model.name!r}, whose last layer is {model.layers[-1].name!r}."
        ) from None
    x = pool.input
    if blocks.channel_axis() != -1:
        x = keras.layers.Permute((2, 3, 1), name="channels_last")(x)
    return keras.Model(model.input, classifier(x), name=f"{model.name}_dense")


class Constructor(Protocol):
    """A row of the table as a function: `keras_resnet.ResNet50` and its like."""

    __name__: str

    def __call__(
        self,
        include_top: bool = True,
        weights: str | None = None,
        input_tensor: Any = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | Callable | None = "softmax",
        name: str = "resnet",
        *,
        features: bool = False,
        dtype: str | keras.DTypePolicy | None = None,
        sync_batch_norm: bool = False,
        load_head: bool = True,
        **settings: Any,
    ) -> keras.Model:
        """Builds the network; see `build` for the arguments."""


@functools.cache
def constructor(network: str) -> Constructor:
    """The public constructor of one row of the table: `constructor("ResNet50")` is `keras_resnet.ResNet50`.

    Args:
        network: a name as the table has it.

    Returns:
        A function with the arguments of `build` but for the architecture, whose settings it takes by name.

    Example:
    >>> constructor("ResNet50")(classes=7).name
    'resnet50'
    """
    row, lower_case = NAMED[network], network.lower()

    def construct(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=row.classes,
        classifier_activation="softmax",
        name=lower_case,
        *,
        features=False,
        dtype=None,
        sync_batch_norm=False,
        load_head=True,
        **settings,
    ):
        return build(
            _with_settings(row, settings, network),
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            name,
            features=features,
            dtype=dtype,
            sync_batch_norm=sync_batch_norm,
            load_head=load_head,
        )

    construct.__name__ = construct.__qualname__ = network
    construct.__module__ = "keras_resnet"
    construct.__doc__ = _docstring(network, row)
    return construct


def _with_settings(row: Architecture, settings: dict[str, Any], network: str) -> Architecture:
    known = {field.name for field in dataclasses.fields(Architecture)}
    for setting in settings:
        if setting not in known:
            hint = nearest(setting, known) or f" Its architecture has the settings {', '.join(sorted(known))}."
            raise TypeError(f"{network}() has no such argument. Received: {setting}={settings[setting]!r}.{hint}")
    return dataclasses.replace(row, **settings)


def _docstring(network: str, row: Architecture) -> str:
    arguments = inspect.getdoc(build) or ""
    arguments = arguments[arguments.find("    include_top:") : arguments.find("Example:")]
    arguments = arguments.replace(
        "\nReturns:", "    **settings: other fields of `keras_resnet.Architecture`.\n\nReturns:"
    )
    return (
        f"{network}, a row of the one builder's table.\n\n{row}\n\nArgs:\n{arguments}Example:\n"
        f">>> keras_resnet.{network}(weights=None).output_shape\n(None, {row.classes})\n"
    )


def get_model(name: str, **kwargs: Any) -> keras.Model:
    """Builds a network of the table by its name.

    Args:
        name: one of `list_models()`; case, `_` and `-` do not matter.
        **kwargs: what the constructor of that name takes.

    Returns:
        The `keras.Model`.

    Example:
    >>> keras_resnet.get_model("resnet50", classes=10).output_shape
    (None, 10)
    """
    return constructor(network_name(name))(**kwargs)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks in the table.

    Args:
        pattern: a shell pattern; case and `_` do not matter.

    Returns:
        The names, in the order of the table.

    Example:
    >>> keras_resnet.list_models("plain*")
    ['Plain18', 'Plain34', 'Plain20', 'Plain32', 'Plain44', 'Plain56', 'Plain110']
    """
    return [name for name in NAMED if fnmatch.fnmatchcase(normalized(name), pattern.lower().replace("_", ""))]
