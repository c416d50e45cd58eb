"""Random numbers: the generator, and that examples and epochs have their own."""

import math

import numpy as np
import tensorflow as tf
from stacks import keys, kolmogorov_smirnov

from keras_resnet.data import draws
from keras_resnet.data.augmentation import (
    example_keys,
)


def test_the_generator_is_splitmix64():
    """The sequence from the seed 1234567 is the one that the generator's other implementations are tested with."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert draws.bits(tf.constant(1234567, tf.uint64), 5).numpy().tolist() == expected


def test_keys_differ():
    seen = [example_keys(seed, epoch, tf.range(1000)).numpy() for seed in (0, 1, -1) for epoch in range(20)]
    assert len(np.unique(seen)) == 60_000
    np.testing.assert_array_equal(example_keys(3, 4, 5), example_keys(3, tf.constant(4), tf.constant([5, 6]))[0])


def test_draws_are_uniform_over_examples_and_epochs():
    for sample in (
        draws.uniform(keys(40_000), 1)[:, 0],
        draws.uniform(example_keys(1, tf.range(40_000), 7), 1)[:, 0],
        draws.uniform(keys(1)[0], 40_000),
    ):
        sample = sample.numpy()
        assert sample.min() >= 0
        assert sample.max() < 1
        assert kolmogorov_smirnov(sample, lambda x: x) < 1.95
        assert abs(np.corrcoef(sample[1:], sample[:-1])[0, 1]) < 0.02


def test_normal_numbers():
    sample = draws.normal(keys(20_000), 2).numpy()
    cumulative = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    assert kolmogorov_smirnov(sample[:, 0], cumulative) < 1.95
    assert abs(np.corrcoef(sample.T)[0, 1]) < 0.03
    extreme = tf.constant([2**64 - 1, 0], tf.uint64)  # what the mixing function may give at worst
    steps = tf.cast(tf.bitwise.right_shift(extreme, tf.constant(41, tf.uint64)), tf.float32)
    assert np.all(np.isfinite(tf.math.ndtri((steps + 0.5) * 2.0**-23)))


def test_one_key_and_many():
    many = keys(5)
    for draw in (lambda k: draws.uniform(k, 3), lambda k: draws.normal(k, 3), lambda k: draws.integers(k, [5, 9])):
        # the last bit of a vectorised function may depend on the length of the vector
        np.testing.assert_allclose(draw(many), [draw(key) for key in many], rtol=3e-7)
