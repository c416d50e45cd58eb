"""What mixes images against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from stacks import BATCH, keys, kolmogorov_smirnov

from keras_resnet.data.augmentation import (
    CutMix,
    Either,
    MixUp,
    apply,
)
from keras_resnet.data.mixing import weights_and_partners


def test_weights_and_partners():
    for alpha in (0.01, 0.2, 1.0, 2.0):
        weight, partner = (x.numpy() for x in weights_and_partners(tf.constant([1, 2]), 20_000, alpha))
        assert np.all((weight >= 0) & (weight <= 1))  # and none is NaN
        assert sorted(partner) == list(range(20_000))
        assert abs(weight.mean() - 0.5) < 0.02
        assert abs(weight.var() - 1 / (4 * (2 * alpha + 1))) < 0.005
    weight = weights_and_partners(tf.constant([1, 2]), 20_000, 1.0)[0].numpy()
    assert kolmogorov_smirnov(weight, lambda x: x) < 1.95


def test_mixup():
    labels = tf.one_hot(tf.range(16) % 5, 5)
    part = MixUp(0.5)
    images, mixed = apply((part,), BATCH, keys(16), labels)
    weight, partner = (x.numpy() for x in weights_and_partners(part.seed(keys(16)), 16, 0.5))
    w = weight[:, np.newaxis]
    np.testing.assert_allclose(mixed, w * labels + (1 - w) * labels.numpy()[partner], rtol=1e-6)
    w = w[..., np.newaxis, np.newaxis]
    np.testing.assert_allclose(images, w * BATCH + (1 - w) * BATCH[partner], rtol=1e-4, atol=1e-3)


def test_cutmix_counts_the_pixels():
    plain = np.broadcast_to(np.arange(64)[:, np.newaxis, np.newaxis, np.newaxis], (64, 24, 20, 1))
    part = CutMix(1.0)
    images, labels = apply((part,), plain, keys(64), tf.eye(64))
    partner = weights_and_partners(part.seed(keys(64)), 64, 1.0)[1].numpy()
    for i in range(64):
        own = (images[i].numpy() == i).mean()
        if partner[i] != i:
            assert abs(labels[i, i] - own) < 1e-5
            assert abs(labels[i, partner[i]] - (1 - own)) < 1e-5
            assert (images[i].numpy() == partner[i]).mean() == pytest.approx(1 - own)
            rows = np.flatnonzero((images[i].numpy() != i).any(axis=(1, 2)))  # a box: no holes
            columns = np.flatnonzero((images[i].numpy() != i).any(axis=(0, 2)))
            assert round((1 - own) * 480) == len(rows) * len(columns)


def test_either():
    labels = tf.eye(16)
    part = Either((MixUp(1.0), CutMix(1.0)))
    mixed_up = 0
    for epoch in range(20):
        batch_keys = keys(16, epoch=epoch)
        images, _ = part(tf.constant(BATCH), labels, batch_keys)
        ways = [mixing(tf.constant(BATCH), labels, batch_keys)[0].numpy() for mixing in part.mixings]
        same = [np.array_equal(images, way) for way in ways]
        assert sum(same) == 1
        mixed_up += same[0]
    assert 4 < mixed_up < 16
