"""Batches of small images in the device's memory: each is a function of its step."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

from keras_resnet.training.config import RECIPES
from keras_resnet.training.inputs import in_memory

pytestmark = pytest.mark.lower_house


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 8, 8, 3), np.uint8), random.integers(0, 3, 20)
    config = dataclasses.replace(RECIPES["cifar-paper"], batch_size=8, seed=1)
    return in_memory(images, labels, images[:10], labels[:10], ("a", "b", "c"), config)


def taken(batches, count):
    batches = itertools.islice(iter(batches), count)
    return [[keras.ops.convert_to_numpy(column) for column in batch] for batch in batches]


def assert_equal(these, those):
    for own, other in zip(keras.tree.flatten(these), keras.tree.flatten(those), strict=True):
        np.testing.assert_array_equal(own, other)


def test_training_goes_on_with_the_batch_of_its_step_however_often_it_is_begun(inputs):
    whole = taken(inputs.training(0, 0, 1), 7)
    seen = np.concatenate([draws[:, 0] for draws, _ in whole])
    for epoch in (seen[:20], seen[20:40]):
        assert sorted(epoch) == [*range(20)]
    assert (seen[:20] != seen[20:40]).any()
    later = inputs.training(3, 0, 1)
    for _ in range(2):
        assert_equal(taken(later, 4), whole[3:])


def test_workers_have_the_rows_of_one(inputs):
    pytest.importorskip("tensorflow")
    for make, count in ((lambda *share: inputs.training(2, *share), 3), (inputs.validation, 2)):
        halves = [make(worker, 2) for worker in (0, 1)]
        assert all(spec.shape[0] == 4 for spec in halves[0].element_spec)
        assert halves[0].options().autotune.enabled is False
        for _ in range(2):
            parts = zip(*(taken(half, count) for half in halves), strict=True)
            assert_equal([[np.concatenate(pair) for pair in zip(*part)] for part in parts], taken(make(0, 1), count))
