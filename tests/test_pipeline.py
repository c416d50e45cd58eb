"""Batches: exact counts, the same on any number of threads, and the same after a resume."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_resnet.data import augmentation, pipeline
from keras_resnet.data.sources import Source
from keras_resnet.data.storage import Table


def source(count, classes=3):
    """Encoded images of different sizes, whose first pixel is their number."""
    random = np.random.default_rng(0)
    images = np.empty(count, object)
    for i in range(count):
        pixels = random.integers(0, 256, (24 + i % 5, 30 - i % 7, 3), dtype="uint8")
        images[i] = tf.io.encode_png(pixels).numpy()
    return Source("mine", "train", tuple("abc"[:classes]), Table(images, np.arange(count) % classes))


STACK = augmentation.paper_imagenet(16, low=18, high=24)
CENTRE = (augmentation.Resize(18), augmentation.CenterCrop(16))


@given(count=st.integers(1, 23), batch_size=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_evaluation_sees_each_example_once(count, batch_size):
    batches = list(pipeline.evaluation(source(count), CENTRE, batch_size).as_numpy_iterator())
    assert {len(weights) for _, _, weights in batches} == {batch_size}
    weights = np.concatenate([weights for _, _, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    np.testing.assert_array_equal(weights, np.arange(len(weights)) < count)
    np.testing.assert_array_equal(labels[:count], np.arange(count) % 3)


def batches(count=10, **arguments):
    dataset = pipeline.training(source(20), STACK, batch_size=4, seed=5, **arguments)
    return list(dataset.take(count).as_numpy_iterator())


def assert_same(one, other):
    for (images, labels), (others, other_labels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


def test_training_is_a_function_of_seed_and_step():
    whole = batches(12)
    assert_same(whole, batches(12, threads=1))
    assert_same(whole[7:], batches(5, start_step=7))
    assert whole[0][0].shape == (4, 16, 16, 3)
    first, second = (np.concatenate([labels for _, labels in whole[i : i + 5]]) for i in (0, 5))
    np.testing.assert_array_equal(np.bincount(first), np.bincount(second))  # an epoch has each example once
    assert not np.array_equal(first, second)


def test_labels_are_mixed_where_the_stack_mixes():
    stack = (*augmentation.paper_imagenet(16, low=18, high=24), augmentation.MixUp(1.0))
    _, labels = next(iter(pipeline.training(source(20), stack, 4, seed=0, one_hot=True)))
    assert labels.shape == (4, 3)
    np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-6)
    assert 0 < np.max(labels) < 1 or np.unique(labels).size > 2
    with pytest.raises(ValueError, match="one-hot"):
        pipeline.training(source(20), stack, 4, seed=0)
