"""Distributions of scales, crops and mirrors against their definitions."""

import math

import numpy as np
import tensorflow as tf
from stacks import chi_square, keys, kolmogorov_smirnov

from keras_resnet.data import augmentation, draws
from keras_resnet.data.augmentation import (
    InceptionCrop,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    ScaleJitter,
    apply,
)
from keras_resnet.data.geometry import random_box
from keras_resnet.data.windows import View


def views(part, size, count, field):
    @tf.function
    def see(all_keys):
        return tf.map_fn(
            lambda key: getattr(part.view(View(tf.constant(size)), key), field), all_keys, fn_output_signature=tf.int32
        )

    return see(keys(count)).numpy()


def test_scale_jitter_is_uniform_over_the_integers():
    sizes = views(ScaleJitter(256, 480), (375, 500), 22_500, "size")
    assert (sizes[:, 0].min(), sizes[:, 0].max()) == (256, 480)
    assert abs(chi_square(np.bincount(sizes[:, 0] - 256, minlength=225))) < 3
    np.testing.assert_array_equal(sizes[:, 1], sizes[:, 0] * 500 // 375)
    portrait = views(ScaleJitter(256, 480), (501, 333), 300, "size")
    np.testing.assert_array_equal(portrait[:, 0], [int(side * 501 / 333) for side in portrait[:, 1]])


def test_crops_are_uniform_over_the_integers():
    corners = views(RandomCrop((30, 20)), (40, 35), 17_600, "corner")
    table = np.bincount(corners[:, 0] * 16 + corners[:, 1], minlength=11 * 16)
    assert len(table) == 11 * 16
    assert abs(chi_square(table)) < 3


def test_scale_and_place_are_independent():
    all_keys = keys(8000)
    shorter = draws.integers(ScaleJitter().own(all_keys), [4])[:, 0].numpy()
    place = draws.integers(RandomCrop(224).own(all_keys), [4, 4]).numpy()
    mirror = (draws.uniform(RandomFlip().own(all_keys), 1)[:, 0] < 0.5).numpy()
    assert abs(chi_square(np.bincount(shorter * 32 + place[:, 0] * 8 + place[:, 1] * 2 + mirror, minlength=128))) < 3


def test_flips():
    images = tf.reshape(tf.range(2 * 5000) % 2, (5000, 1, 2, 1))
    for rate in (0.0, 0.3, 0.5, 1.0):
        mirrored = apply((RandomFlip(rate),), images, keys(5000))[:, 0, 0, 0].numpy()
        assert abs(mirrored.mean() - rate) <= 3 * math.sqrt(rate * (1 - rate) / 5000)


def test_inception_crop():
    height, width = 300, 400
    fits, boxes = random_box(keys(20_000), tf.constant([height, width]), (0.08, 1.0), (3 / 4, 4 / 3))
    top, left, high, wide = boxes.numpy()[fits.numpy()].T
    assert fits.numpy().mean() > 0.99
    assert np.all((top >= 0) & (left >= 0) & (top + high <= height) & (left + wide <= width))
    area = high * wide / (height * width)
    small = area[area < 0.4]  # what is that small always fits, so nothing has been rejected there
    assert kolmogorov_smirnov(small, lambda x: (x - small.min()) / (small.max() - small.min())) < 1.95
    ratio = np.log(wide / high)[area < 0.4]
    assert (
        kolmogorov_smirnov(ratio, lambda x: (x - math.log(3 / 4)) / (2 * math.log(4 / 3))) < 2.5
    )  # sides are integers
    narrow = top[high == 150] if (high == 150).sum() > 50 else top[(high > 140) & (high < 160)]
    assert kolmogorov_smirnov(narrow / (height - 150), lambda x: np.clip(x, 0, 1)) < 2.5


def test_inception_crop_of_an_image_that_no_draw_fits():
    part = InceptionCrop(32)
    view = part.view(View(tf.constant([10, 1000])), keys(1)[0])
    assert view.corner.numpy().tolist() == [0, 493]
    assert view.extent.numpy().tolist() == [10, 13]
    assert part(tf.zeros((10, 1000, 3)), keys(1)[0]).shape == (32, 32, 3)


def test_random_erasing():
    images = tf.zeros((3000, 32, 32, 1))
    erased = apply((RandomErasing(0.25, value=1.0),), images, keys(3000)).numpy()
    share = erased.mean(axis=(1, 2, 3))
    assert abs((share > 0).mean() - 0.25) < 0.03
    assert share[share > 0].min() > 0.01
    assert share.max() < 0.36
    assert abs(share[share > 0].mean() - (0.02 + 1 / 3) / 2) < 0.02
    coloured = apply((RandomErasing(1.0),), tf.zeros((8, 32, 32, 3)), keys(8)).numpy()
    np.testing.assert_allclose(coloured.max(axis=(1, 2)), [augmentation.IMAGENET_MEAN] * 8, rtol=1e-6)
