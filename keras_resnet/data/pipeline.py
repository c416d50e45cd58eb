"""From a source and a stack to batches: for training without end and resumable by step, for evaluation exactly once."""

from collections.abc import Sequence

import tensorflow as tf

from keras_resnet.data.augmentation import apply, example_keys, split
from keras_resnet.data.mixing import Mixing
from keras_resnet.data.parts import Part
from keras_resnet.data.sources import Source


def training(
    source: Source,
    stack: Sequence[Part],
    batch_size: int,
    seed: int,
    start_step: int = 0,
    one_hot: bool = False,
    threads: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Endless shuffled batches of augmented images and labels.

    What is in a batch is a function of the seed and the step alone: a run that has made `n` steps goes on with
    `start_step=n`, on any number of threads.

    Args:
        source: images and labels.
        stack: the augmentation.
        batch_size: examples in each batch.
        seed: of the order and of the augmentation.
        start_step: how many batches to leave out at the front.
        one_hot: whether labels are one-hot float32 (needed by what mixes them) instead of integers.
        threads: how many images are worked on at a time.

    Returns:
        A `tf.data.Dataset` of `(batch, height, width, channels)` images and `(batch,)` or `(batch, classes)` labels.

    Example:
    >>> images, labels = next(iter(training(open_source("demo", "train"), paper_imagenet(), 64, seed=0)))
    """
    single, batched = split(stack, source.encoded)
    start = start_step * batch_size

    def prepare(position, example):
        image, label = example
        key = example_keys(seed, position // source.num_examples, position)
        return apply(single, image, key), tf.one_hot(label, source.num_classes) if one_hot else label, key

    def finish(images, labels, keys):
        mixed = apply(batched, images, keys, labels if one_hot and _mixes(batched) else None)
        return mixed if isinstance(mixed, tuple) else (mixed, labels)

    examples = source.stream(seed, start).enumerate(start)
    batches = examples.map(prepare, threads, deterministic=True).batch(batch_size, drop_remainder=True)
    return batches.map(finish, threads, deterministic=True).prefetch(tf.data.AUTOTUNE)


def evaluation(
    source: Source, stack: Sequence[Part], batch_size: int, one_hot: bool = False, threads: int = tf.data.AUTOTUNE
) -> tf.data.Dataset:
    """Each example exactly once, in full batches: what fills up the last one has the weight 0.

    Args:
        source: images and labels.
        stack: the preprocessing; it may not draw.
        batch_size: examples in each batch.
        one_hot: whether labels are one-hot float32 instead of integers.
        threads: how many images are worked on at a time.

    Returns:
        A `tf.data.Dataset` of images, labels and weights `(batch,)`, whose sum is `source.num_examples`. Measure with
        `weighted_metrics`.

    Example:
    >>> for images, labels, weights in evaluation(open_source("demo", "test"), stack, 64):
    ...     pass
    """
    single, batched = split(stack, source.encoded)
    missing = -source.num_examples % batch_size

    def prepare(image, label):
        return apply(single, image), tf.one_hot(label, source.num_classes) if one_hot else label, 1.0

    def finish(images, labels, weights):
        return apply(batched, images), labels, weights

    examples = source.dataset().map(prepare, threads, deterministic=True)
    padding = examples.take(1).repeat(missing).map(lambda image, label, _: (image, label, 0.0))
    batches = examples.concatenate(padding).batch(batch_size, drop_remainder=True)
    return batches.map(finish, threads, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _mixes(stack: Sequence[Part]) -> bool:
    return any(isinstance(part, Mixing) for part in stack)
