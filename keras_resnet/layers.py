"""What Keras has but has slow: batch normalisation, by TensorFlow's fused kernel; and normal random numbers.

Everything else in these networks is stock Keras. These two are too, as far as files and other people's code can tell:
the classes are called and saved as Keras's own and have their arguments and results.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

_CHUNK = 2**18  # random numbers of one generator: part of what a seed means
_FUSED_DTYPES = ("float32", "float16", "bfloat16")


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, in one pass over the activations and in their own type.

    Where TensorFlow's kernel cannot (another backend, channels first, another rank than 4, synchronised, float64), this
    is the stock layer.

    The stock layer casts mixed-precision activations to float32 and takes moments, difference, product and sum one
    after the other. The fused kernel reads bfloat16 and float16 as they are and keeps its statistics in float32.

    Arguments and variables are the stock layer's. So are the statistics: the kernel gives a batch variance corrected by
    n / (n - 1), as PyTorch's moving variance has it; the correction is undone, so that a network trained with this
    layer is the network that Keras would have trained.

    Example:
    >>> tuple(BatchNormalization()(keras.ops.ones((2, 4, 4, 8))).shape)
    (2, 4, 4, 8)
    """

    # Files name a layer by this module and the class's name: ours open where this package is not installed.
    __module__ = "keras.layers"

    def call(self, inputs, training=None, mask=None):
        """Normalises `inputs` of shape `(batch, height, width, channels)`, or of any shape the stock layer takes."""
        if not self._can_fuse(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        training = bool(training and self.trainable)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            # In training the kernel computes these two itself, and wants them empty.
            mean=tf.zeros((0,)) if training else self.moving_mean,
            variance=tf.zeros((0,)) if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            n = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
            variance *= tf.maximum(n - 1.0, 1.0) / n
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def _can_fuse(self, inputs, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.synchronized
            and not getattr(self, "renorm", False)  # Keras has it from 3.13 on
            and self.variable_dtype == "float32"
            and keras.backend.standardize_dtype(inputs.dtype) == self.compute_dtype
            and self.compute_dtype in _FUSED_DTYPES
        )


class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras's initialiser of this name with normal numbers, drawn by NumPy on all cores.

    JAX compiles its own generator anew for each shape: ResNet-50 takes ten seconds to build with it, and half a second
    with this one. The same seed also gives the same network on every backend.

    Example:
    >>> tuple(VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")((3, 3, 16, 32)).shape)
    (3, 3, 16, 32)
    """

    __module__ = "keras.initializers"

    def __call__(self, shape, dtype=None, **kwargs):
        """A tensor of `shape`, `(..., in, out)`."""
        if self.distribution != "untruncated_normal":
            return super().__call__(shape, dtype=dtype, **kwargs)
        receptive_field = math.prod(shape[:-2])
        fan_in, fan_out = receptive_field * shape[-2], receptive_field * shape[-1]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        values, deviation = np.empty(math.prod(shape), "float32"), np.float32(math.sqrt(self.scale / fan))

        def draw(start: int):
            chunk = values[start : start + _CHUNK]
            np.random.Generator(np.random.PCG64([self.seed, start])).standard_normal(dtype="float32", out=chunk)
            np.multiply(chunk, deviation, out=chunk)

        if len(values) <= _CHUNK:
            draw(0)
        else:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                list(threads.map(draw, range(0, len(values), _CHUNK)))
        return keras.ops.convert_to_tensor(values.reshape(shape), dtype)


def load_model(filepath: str | os.PathLike, **kwargs: Any) -> keras.Model:
    """Opens a `.keras` file with the fast batch normalisation in place of the stock one.

    `keras.saving.load_model` opens the same file with the same results, slower.

    Args:
        filepath: a file written by `model.save`.
        **kwargs: passed on to `keras.saving.load_model`: `compile`, `safe_mode`, `custom_objects`.

    Returns:
        The `keras.Model`.

    Example:
    >>> keras_resnet.ResNet20().save("resnet20.keras")
    >>> keras_resnet.load_model("resnet20.keras").name
    'resnet20'
    """
    custom_objects = {"BatchNormalization": BatchNormalization} | (kwargs.pop("custom_objects", None) or {})
    return keras.saving.load_model(filepath, custom_objects=custom_objects, **kwargs)
