"""From a source and a stack to batches: for training without end and resumable by step, for evaluation exactly once.

What is in a batch is a function of the seed and the step alone. Several workers each make their rows of it (`share`):
together they have the batch that one would have.
"""

import pathlib
from collections.abc import Sequence

import tensorflow as tf

from keras_resnet.data.augmentation import apply, example_keys, split
from keras_resnet.data.batching import BATCHES_AT_ONCE, each, stop_if_many
from keras_resnet.data.caching import cached
from keras_resnet.data.mixing import Mixing
from keras_resnet.data.parts import Part
from keras_resnet.data.prepare import bad_images
from keras_resnet.data.sources import Source


def training(
    source: Source,
    stack: Sequence[Part],
    batch_size: int,
    seed: int,
    start_step: int = 0,
    one_hot: bool = False,
    threads: int = tf.data.AUTOTUNE,
    *,
    share: tuple[int, int] = (0, 1),
    cache: str | None = None,
    service: str | None = None,
    bad_share: float = 0.01,
) -> tf.data.Dataset:
    """Endless shuffled batches of augmented images and labels.

    What is in a batch is a function of the seed and the step alone: a run that has made `n` steps goes on with
    `start_step=n`, on any number of threads. An image that cannot be decoded is named on stderr, and the next example
    of its batch that can be takes its place.

    Args:
        source: images and labels.
        stack: the augmentation. The host's part of `augmentation.for_device` gives uint8.
        batch_size: examples in each global batch.
        seed: of the order and of the augmentation.
        start_step: how many batches to leave out at the front.
        one_hot: whether labels are one-hot float32 (needed by what mixes them) instead of integers.
        threads: how many images are worked on at a time.
        share: index and count of workers: which rows of each global batch to make. What mixes images does so among
            these rows.
        cache: `"memory"`, or a local folder, to keep the source in as it is first read: see `caching.cached`.
        service: address of a tf.data service (`"grpc://host:port"`), whose workers then make the batches. An example
            has the same draws in an epoch whoever makes it; but the order of batches is not promised, nor resuming.
        bad_share: the share of examples that may be bad. More of them stop the run.

    Returns:
        A `tf.data.Dataset` of `(rows, height, width, channels)` images and `(rows,)` or `(rows, classes)` labels;
        `rows` is `batch_size`, divided by the count of workers.

    Example:
    >>> images, labels = next(iter(training(open_source("demo", "train"), paper_imagenet(), 64, seed=0)))
    """
    source = cached(source, cache)
    rows = _rows(batch_size, share)
    single, batched = split(stack, source.encoded)
    mixes = one_hot and any(isinstance(part, Mixing) for part in batched)

    @tf.autograph.experimental.do_not_convert
    def make(serials, images, labels):
        numbers = serials % source.num_examples
        keys = example_keys(seed, serials // source.num_examples, numbers)
        taken, made = _one_by_one(source, single, images, rows, keys, batch_size - 1, numbers, threads)
        labels = _labels(source, tf.gather(labels, taken), one_hot)
        made = apply(batched, made, keys[rows.start : rows.stop], labels if mixes else None)
        bad = tf.where(taken == rows, tf.constant(-1, tf.int64), numbers[rows.start : rows.stop])
        return (made if mixes else (made, labels)), bad

    batches = source.batches(seed, batch_size, start_step, scattered=service is not None)
    batches = batches.map(make, _batches_at_once(threads), deterministic=True)
    if service is not None:
        sharing_out = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        batches = batches.apply(tf.data.experimental.service.distribute(sharing_out, service))
    if source.encoded:
        of_an_epoch = max(source.num_examples // share[1], 1)
        batches = stop_if_many(batches, bad_share, of_an_epoch, source.names, start_step * len(rows))
    else:
        batches = batches.map(lambda made, _: made)
    # How far a service's workers run ahead is what autotuning sees to.
    return _finished(without_waiting(batches) if service is None else batches.prefetch(tf.data.AUTOTUNE))


def evaluation(
    source: Source,
    stack: Sequence[Part],
    batch_size: int,
    one_hot: bool = False,
    threads: int = tf.data.AUTOTUNE,
    *,
    share: tuple[int, int] = (0, 1),
    cache: str | None = None,
) -> tf.data.Dataset:
    """Each example exactly once, in full batches: what fills up the last one has the weight 0.

    Args:
        source: images and labels. One that cannot be decoded is an error that names it (of a cache on disk: them all).
        stack: the preprocessing; it may not draw.
        batch_size: examples in each global batch.
        one_hot: whether labels are one-hot float32 instead of integers.
        threads: how many images are worked on at a time.
        share: index and count of workers: which rows of each global batch to make.
        cache: as in `training`.

    Returns:
        A `tf.data.Dataset` of images, labels and weights `(rows,)`, whose sum is `source.num_examples`. Measure with
        `weighted_metrics`.

    Example:
    >>> for images, labels, weights in evaluation(open_source("demo", "test"), stack, 64):
    ...     pass
    """
    source = _whole(source, cached(source, cache), cache)
    rows = _rows(batch_size, share)
    single, batched = split(stack, source.encoded)

    @tf.autograph.experimental.do_not_convert
    def make(numbers, images, labels):
        places, count = tf.range(batch_size), tf.size(labels)
        repeated = tf.minimum(places, count - 1)
        numbers, images, labels = (tf.gather(column, repeated) for column in (numbers, images, labels))
        _, made = _one_by_one(source, single, images, rows, None, 0, numbers, threads)
        weights = tf.cast(places < count, tf.float32)
        labels, weights = (column[rows.start : rows.stop] for column in (labels, weights))
        return apply(batched, made), _labels(source, labels, one_hot), weights

    batches = source.examples().batch(batch_size).map(make, _batches_at_once(threads), deterministic=True)
    return _finished(without_waiting(batches))


def _whole(source: Source, kept: Source, cache: str | None) -> Source:
    """What is kept of a source, if that is all of it."""
    if missing := source.num_examples - kept.num_examples:
        names = bad_images(pathlib.Path(cache, source.split), kept.split)
        raise ValueError(
            f"{missing} of {source.num_examples} images cannot be decoded, and an evaluation is of all. "
            f"Received: {', '.join(names[:5])}{', ...' if missing > 5 else ''}."
        )
    return kept


def _finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Workers have shared the rows out already; and a strategy's search for what to share out takes seconds.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)


def without_waiting(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches, and has an iterator's end cost nothing.

    Measured with TensorFlow 2.21: where autotuning is on, letting go of an iterator waits for a thread that sleeps for
    10 ms, 20 ms, ... up to a minute. `fit` does that at its end, and for each validation. Without it as many calls run
    at a time as there are cores.

    Example:
    >>> [int(number) for number in without_waiting(tf.data.Dataset.range(3))]
    [0, 1, 2]
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


def _one_by_one(source, single, images, rows, keys, replacements, numbers, threads):
    """Which examples stand in the rows, and what the first part of a stack makes of them."""
    if not source.encoded and not single:
        return tf.range(rows.start, rows.stop, dtype=tf.int64), images[rows.start : rows.stop]

    def function(example, row):
        return apply(single, source.read(images[example]), None if keys is None else keys[row])

    def names(places):
        return source.names(tf.gather(numbers, places))

    return each(function, rows, replacements, names, threads)


def _labels(source: Source, labels: tf.Tensor, one_hot: bool) -> tf.Tensor:
    return tf.one_hot(labels, source.num_classes) if one_hot else labels


def _rows(batch_size: int, share: tuple[int, int]) -> range:
    """The rows of each global batch that one of several workers makes."""
    index, count = share
    if not 0 <= index < count or batch_size % count:
        raise ValueError(
            "`share` is a worker's index, from 0, and the count of workers, which must divide the batch. "
            f"Received: share={share}, batch_size={batch_size}."
        )
    return range(index * batch_size // count, (index + 1) * batch_size // count)


def _batches_at_once(threads: int) -> int:
    return BATCHES_AT_ONCE if threads == tf.data.AUTOTUNE else min(threads, BATCHES_AT_ONCE)
