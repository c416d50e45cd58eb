"""A contact sheet: what a stack makes of some pictures, to look at before training on it."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data import augmentation
from keras_resnet.data.parts import Part

STACKS = {
    "paper": augmentation.paper_imagenet,
    "cifar": augmentation.cifar,
    "inception": augmentation.inception,
    "modern": augmentation.modern,
    "evaluation": augmentation.evaluation,
}
_GAP, _LEAST = 4, 128  # pixels between pictures; least side of a cell


def contact_sheet(pictures: Sequence[bytes], stack: Sequence[Part], columns: int = 6, seed: int = 0) -> np.ndarray:
    """Draws pictures and what a stack makes of them.

    Args:
        pictures: encoded images.
        stack: the augmentation; its normalisation is left out. What mixes images mixes those of a column.
        columns: how many draws of each picture, each of another epoch.
        seed: of the draws.

    Returns:
        uint8 `(height, width, 3)`: a row for each picture, first as it is (all of it, scaled to fit), then the draws.

    Example:
    >>> picture = tf.io.encode_jpeg(tf.zeros((100, 150, 3), tf.uint8)).numpy()
    >>> contact_sheet([picture], augmentation.paper_imagenet(64, 70, 90), columns=2).shape
    (136, 400, 3)
    """
    host, _ = augmentation.for_device(stack)
    at = next((place for place, part in enumerate(host) if isinstance(part, augmentation.Mixing)), len(host))
    single, batched = host[:at], host[at:]  # pictures may differ in size until they are cropped
    numbers = tf.range(len(pictures))
    sheet = []
    for epoch in range(columns):
        keys = augmentation.example_keys(seed, epoch, numbers)
        images = tf.stack([augmentation.apply(single, picture, key) for picture, key in zip(pictures, keys)])
        mixed = augmentation.apply(batched, images, keys, tf.eye(len(pictures)) if batched else None)
        sheet.append((mixed[0] if isinstance(mixed, tuple) else mixed).numpy())
    height, width = sheet[0].shape[1:3]
    times = -(-_LEAST // min(height, width))
    cell = (height * times, width * times)
    originals = np.stack([_fitted(augmentation.decode(picture), cell) for picture in pictures])
    enlarged = [images.repeat(times, axis=1).repeat(times, axis=2) for images in sheet]
    rows = np.stack([originals, *enlarged], axis=1)
    framed = np.pad(rows, [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)], constant_values=255)
    count, across, high, wide, channels = framed.shape
    flat = framed.transpose(0, 2, 1, 3, 4).reshape(count * high, across * wide, channels)
    return np.pad(flat, [(_GAP, 0), (_GAP, 0), (0, 0)], constant_values=255)


def _fitted(image: tf.Tensor, cell: tuple[int, int]) -> np.ndarray:
    """The whole image in the middle of a white cell."""
    small = tf.image.resize(image, cell, preserve_aspect_ratio=True, antialias=True)
    small = np.uint8(np.clip(np.round(small), 0, 255))
    free = [room - length for room, length in zip(cell, small.shape)]
    return np.pad(small, [*((room // 2, room - room // 2) for room in free), (0, 0)], constant_values=255)
