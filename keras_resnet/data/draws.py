"""Random numbers as pure functions: one 64-bit key an example, any number of draws from each key.

A key is made from (seed, epoch, index of the example), so what an example gets depends on nothing else: not on the
thread, the worker, the batch that it is in, or on where a run was resumed. All functions here take one key or a
tensor of keys. That is why they are not TensorFlow's: its stateless operations take one seed a call, so that a batch
of examples with a seed each would need a loop. The generator is SplitMix64 (Steele, Lea, Flood 2014): a counter and
a mixing function of eight operations, which costs a tenth of a loop over a batch.
"""

import numpy as np
import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15


def example_keys(seed: int, epoch, index) -> tf.Tensor:
    """The keys of examples in one epoch.

    Args:
        seed: an integer.
        epoch: an integer, or an integer tensor of the shape of `index`.
        index: position of the examples in the data set, not in the epoch: an integer tensor of any shape.

    Returns:
        uint64 tensor of the shape of `index`.

    Example:
    >>> example_keys(seed=1, epoch=0, index=tf.range(128)).shape
    TensorShape([128])
    """
    return fold(fold(fold(tf.zeros((), tf.uint64), seed), epoch), index)


def fold(key: tf.Tensor, number) -> tf.Tensor:
    """Another key for every number: `number` is an integer or an integer tensor that broadcasts with `key`."""
    if isinstance(number, int):
        number = tf.constant(number % 2**64, tf.uint64)
    return _mix(key + (tf.cast(number, tf.uint64) + _uint64(1)) * _uint64(_GOLDEN))


def jump(key: tf.Tensor, stream: int) -> tf.Tensor:
    """The key from which another stream is drawn: 2**16 numbers ahead for each, which takes no mixing."""
    return key + _uint64(stream * 2**16 * _GOLDEN % 2**64)


def bits(key: tf.Tensor, count: int) -> tf.Tensor:
    """64 random bits, `count` times for each key: uint64 of shape `(*key.shape, count)`."""
    return _mix(tf.expand_dims(key, -1) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))


def uniform(key: tf.Tensor, count: int) -> tf.Tensor:
    """Uniform numbers in [0, 1), multiples of 2**-24: float32 of shape `(*key.shape, count)`."""
    return tf.cast(tf.bitwise.right_shift(bits(key, count), _uint64(40)), tf.float32) * 2.0**-24


def normal(key: tf.Tensor, count: int) -> tf.Tensor:
    """Standard normal numbers by inversion (so none beyond 5.4): float32 of shape `(*key.shape, count)`."""
    # 23 bits: with 24 the last midpoint would be rounded to 1, whose quantile is infinite.
    steps = tf.cast(tf.bitwise.right_shift(bits(key, count), _uint64(41)), tf.float32)
    return tf.math.ndtri((steps + 0.5) * 2.0**-23)


def integers(key: tf.Tensor, limits) -> tf.Tensor:
    """Uniform integers.

    Args:
        key: one key, or a tensor of keys.
        limits: int32 tensor `(count,)`, or a shape that broadcasts to the result's; draws lie in [0, limit).

    Returns:
        int32 of shape `(*key.shape, count)`. One value is more likely than another by less than limit / 2**32.

    Example:
    >>> integers(example_keys(1, 0, tf.range(5)), [10, 3]).shape
    TensorShape([5, 2])
    """
    limits = tf.convert_to_tensor(limits, tf.int32)
    high = tf.bitwise.right_shift(bits(key, limits.shape[-1]), _uint64(32))
    return tf.cast(tf.bitwise.right_shift(high * tf.cast(limits, tf.uint64), _uint64(32)), tf.int32)


def tensorflow_seed(key: tf.Tensor) -> tf.Tensor:
    """One key as the `seed` that TensorFlow's stateless operations take: int32 of shape `(2,)`."""
    return tf.bitcast(key, tf.int32)


def _mix(z: tf.Tensor) -> tf.Tensor:
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _uint64(30))) * _uint64(0xBF58476D1CE4E5B9)
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _uint64(27))) * _uint64(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, _uint64(31)))


def _uint64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.uint64)
