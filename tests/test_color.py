"""Colours against numpy."""

import colorsys
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from stacks import BATCH, RANDOM, keys

from keras_resnet import preprocess_input
from keras_resnet.data import augmentation, draws
from keras_resnet.data.augmentation import (
    ColorAugmentation,
    ColorJitter,
    Normalize,
    Pad,
    RandAugment,
    SubtractMean,
    apply,
    mean_image,
    normalization,
)


def test_pca_colour():
    components = ColorAugmentation(0.1).affinity(keys(20_000)).color.numpy() / 255
    eigenvalues = np.array([0.2175, 0.0188, 0.0045])
    eigenvectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = eigenvectors @ np.diag((0.1 * eigenvalues) ** 2) @ eigenvectors.T
    np.testing.assert_allclose(np.cov(components.T), expected, rtol=0.05)
    assert np.abs(components.mean(axis=0)).max() < 3 * 0.1 * 0.2175 / math.sqrt(20_000)


def test_neighbours_that_add_and_scale_are_one():
    mean = RANDOM.uniform(0, 255, (32, 32, 3))
    stack = (Normalize(mean, (2.0, 3.0, 4.0)), ColorAugmentation(0.1), Normalize((1, 2, 3), 5.0), Normalize(mean))
    expected = tf.constant(BATCH)
    for part in stack:
        expected = part(expected, keys(16))
    np.testing.assert_allclose(apply(stack, BATCH, keys(16)), expected, atol=1e-3)
    image, key = BATCH[3], keys(16)[3]
    np.testing.assert_allclose(apply(stack, image, key), expected[3], atol=1e-3)


@pytest.mark.parametrize("name", ["torch", "caffe"])
def test_normalization_is_preprocess_input(name):
    np.testing.assert_allclose(apply(normalization(name), BATCH), preprocess_input(BATCH, name), atol=1e-4)


def test_parts_are_equal_where_they_do_the_same():
    assert augmentation.cifar() == augmentation.cifar()
    assert augmentation.cifar() != augmentation.cifar(padding=3)
    assert hash(augmentation.modern()) == hash(augmentation.modern())
    mean = RANDOM.uniform(0, 255, (4, 4, 3))
    assert SubtractMean(mean) == SubtractMean(mean.copy())
    assert len({SubtractMean(mean), SubtractMean(mean + 1), SubtractMean(), Normalize(std=2.0), Pad()}) == 5


def test_mean_image():
    np.testing.assert_allclose(mean_image(BATCH), BATCH.mean(axis=0), rtol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(BATCH).batch(5)
    np.testing.assert_allclose(mean_image(dataset), BATCH.mean(axis=0), rtol=1e-6)
    centred = apply((SubtractMean(mean_image(BATCH)),), BATCH)
    np.testing.assert_allclose(centred.numpy().mean(axis=0), 0, atol=1e-4)


def jittered(image, operation, strength):
    """By its definition, pixel by pixel."""
    grey = image @ [0.299, 0.587, 0.114]
    if operation == "hue":
        pixels = [colorsys.rgb_to_hsv(*pixel / 255) for pixel in image.reshape(-1, 3)]
        turned = [colorsys.hsv_to_rgb((hue + strength) % 1, *rest) for hue, *rest in pixels]
        return 255 * np.reshape(turned, image.shape)
    middle = {"brightness": 0, "contrast": grey.mean(), "saturation": grey[..., np.newaxis]}[operation]
    return middle + (1 + strength) * (image - middle)


def test_colour_jitter():
    part, orders = ColorJitter(0.4, 0.3, 0.2, 0.1), set()
    spread = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1}
    for image, key in zip(BATCH, keys(16)):
        own, ours = part.own(key), apply((part,), image, key)
        strengths = dict(zip(spread, 2 * draws.uniform(draws.fold(own, 0), 4).numpy() - 1))
        order = [list(spread)[i] for i in np.argsort(draws.uniform(draws.fold(own, 1), 4))]
        orders.add(tuple(order))
        image = image.astype(float)
        for operation in order:
            image = np.clip(jittered(image, operation, spread[operation] * strengths[operation]), 0, 255)
        np.testing.assert_allclose(ours, image, atol=0.02)
    assert len(orders) >= 8  # of 24, in 16 draws
    np.testing.assert_array_equal(apply((ColorJitter(0, 0, 0),), BATCH[0], keys(16)[0]), BATCH[0])


def test_rand_augment():
    image = tf.constant(np.kron(BATCH[0, :8, :8], np.ones((6, 6, 1))), tf.float32)
    many = [RandAugment(1, rate=1.0)(image, key).numpy() for key in keys(40)]
    assert all(result.shape == image.shape for result in many)
    assert all(result.min() > -1e-3 and result.max() < 255 + 1e-3 for result in many)
    assert len({result.tobytes() for result in many}) > 20
    np.testing.assert_array_equal(RandAugment(2, rate=0.0)(image, keys(1)[0]), image)
    np.testing.assert_array_equal(RandAugment(2)(image, keys(3)[2]), RandAugment(2)(image, keys(3)[2]))


def test_rand_augment_under_a_mixed_policy():
    policy = keras.config.dtype_policy()
    image, key = tf.constant(BATCH[0], tf.float32), keys(1)[0]
    expected = [RandAugment(2)(image, key) for key in keys(10)]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        ours = [RandAugment(2)(image, key) for key in keys(10)]
        in_a_graph = tf.function(lambda: RandAugment(2)(image, key))()
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(in_a_graph, expected[0], atol=1e-3)
