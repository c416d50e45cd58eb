"""Batch norms folded into the convolutions before them: less to compute, the same function.

After training a batch norm is `scale * x + shift` for each channel, and a convolution is linear:
`scale * conv(x, kernel) + shift = conv(x, scale * kernel) + shift`. Networks of 2015 have no batch norm left then;
under pre-activation some follow an addition or a pool, and stay.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.layers import BatchNormalization


class _Convolution(NamedTuple):
    """A convolution of the new graph that a batch norm can still be folded into."""

    layer: keras.layers.Conv2D  # the original
    name: str
    inputs: Any
    outputs: Any
    kernel: np.ndarray  # in float64
    bias: np.ndarray | None


def fold_batch_norms(model: keras.Model, dtype: str = "float32") -> keras.Model:
    """The same network for inference: batch norms folded, dropout left out.

    Args:
        model: a functional model; it is not changed.
        dtype: what the layers of images compute in and keep their weights in, whatever the model's own policy:
            `"float32"` or `"bfloat16"`. What comes after the pooling computes in float32.

    Returns:
        A functional `keras.Model` of the same inputs and outputs with weights of its own.

    Example:
    >>> folded = fold_batch_norms(keras_resnet.ResNet20())
    >>> any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    False
    """
    weights, clones, convolutions = {}, {}, {}

    def convolve(layer, name, inputs, kernel, bias):
        config = {"name": name, "use_bias": bias is not None, "dtype": dtype, "kernel_initializer": "zeros"}
        outputs = layer.__class__.from_config(layer.get_config() | config)(inputs)
        convolutions[id(outputs)] = _Convolution(layer, name, inputs, outputs, kernel, bias)
        weights[name] = [kernel] if bias is None else [kernel, bias]
        return outputs

    def call(layer, inputs, *args, **kwargs):
        if isinstance(layer, keras.layers.Dropout):
            return inputs
        if isinstance(layer, keras.layers.Conv2D) and layer.activation is keras.activations.linear:
            kernel, *bias = (np.float64(array) for array in layer.get_weights())
            return convolve(layer, layer.name, inputs, kernel, bias[0] if bias else None)
        if isinstance(layer, keras.layers.BatchNormalization) and id(inputs) in convolutions:
            # The convolution as it was is left behind: unless something else needs it, it is not in the new graph.
            old, (scale, shift) = convolutions[id(inputs)], _affine(layer)
            bias = shift if old.bias is None else scale * old.bias + shift
            return convolve(old.layer, f"{old.name}_{layer.name}", old.inputs, scale * old.kernel, bias)
        if layer not in clones:
            clones[layer] = _clone(layer, dtype)
        return clones[layer](inputs, *args, **kwargs)

    # A nested model's input has the type of the activations that come in.
    inputs = [keras.Input(batch_shape=x.shape, dtype=dtype, name=x.name) for x in model.inputs]
    folded = keras.models.clone_model(
        model,
        input_tensors=inputs if isinstance(model.input, list) else inputs[0],
        clone_function=lambda layer: layer,
        call_function=call,
    )
    weights |= {layer.name: layer.get_weights() for layer in model.layers if layer in clones}
    for layer in folded.layers:
        if layer.name in weights and not isinstance(layer, keras.Model):
            layer.set_weights(weights[layer.name])
    return folded


def _affine(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each channel, in float64."""

    def values(variable, default):
        return default if variable is None else np.float64(keras.ops.convert_to_numpy(variable))

    scale = values(layer.gamma, 1.0) / np.sqrt(values(layer.moving_variance, None) + layer.epsilon)
    return scale, values(layer.beta, 0.0) - scale * values(layer.moving_mean, None)


def _clone(layer: keras.Operation, dtype: str) -> keras.Operation:
    if isinstance(layer, keras.Model):
        return fold_batch_norms(layer, dtype)
    if not isinstance(layer, keras.Layer):
        return layer.__class__.from_config(layer.get_config())
    if isinstance(layer, keras.layers.BatchNormalization):
        # The fused kernel takes its statistics in float32.
        dtype = "mixed_bfloat16" if dtype == "bfloat16" else dtype
        return BatchNormalization.from_config(layer.get_config() | {"dtype": dtype})
    dtype = dtype if len(layer.output.shape) == 4 else "float32"
    return layer.__class__.from_config(layer.get_config() | {"dtype": dtype})
