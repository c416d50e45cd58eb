"""What the tests of augmentation share: images, keys, and distances between distributions."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.data.augmentation import (
    example_keys,
)

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"
RANDOM = np.random.default_rng(0)
BATCH = RANDOM.integers(0, 256, (16, 32, 32, 3), dtype="uint8")


def keys(count, seed=1, epoch=0):
    return example_keys(seed, epoch, tf.range(count))


def photographs(count=12):
    """Encoded photographs of several sizes, where there are none, noise."""
    found = sorted(PHOTOS.rglob("*.jpg"))[:: max(1, len(list(PHOTOS.rglob("*.jpg"))) // count)][:count]
    if found:
        return [path.read_bytes() for path in found]
    sizes = RANDOM.integers(200, 600, (count, 2))
    coarse = [tf.image.resize(RANDOM.uniform(0, 255, (20, 20, 3)), size) for size in sizes]
    return [tf.io.encode_jpeg(tf.cast(image, tf.uint8)).numpy() for image in coarse]


def chi_square(counts, expected=None):
    """Pearson's statistic in standard deviations from its mean: a standard normal number, nearly."""
    counts = np.asarray(counts, float)
    expected = np.full(len(counts), counts.sum() / len(counts)) if expected is None else expected
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def kolmogorov_smirnov(sample, distribution):
    """The greatest distance between the sample's distribution and the definition's, by sqrt(n): 1.95 is 1 in 1000."""
    ordered = np.sort(sample)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    defined = distribution(ordered)
    return max(np.abs(defined - steps[:-1]).max(), np.abs(defined - steps[1:]).max()) * math.sqrt(len(ordered))
