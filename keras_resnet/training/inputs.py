"""What a run is fed with: from any source by tf.data, or CIFAR-10 from the device's own memory on every backend."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.data.cifar import load_cifar10
from keras_resnet.preprocessing import CIFAR10_CLASSES, NAMED, Preprocessing
from keras_resnet.training.config import Config

_PADDING = 4  # section 4.2


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The batches of a run.

    Attributes:
        training: from a step on, without end, a worker's rows of each batch: a function of the step, the worker and how
            many workers there are. What is in a batch is a function of seed and step.
        validation: a worker's rows of each test batch, with weights of 0 for what only fills a batch: a function of
            the worker and how many there are.
        num_examples: training examples.
        num_test_examples: test examples.
        class_names: the name of each class.
        front: what the device does with a batch before the network gets it; None: nothing.
    """

    training: Callable[[int, int, int], Any]
    validation: Callable[[int, int], Any]
    num_examples: int
    num_test_examples: int
    class_names: tuple[str, ...]
    front: keras.Model | None = None


def preprocessing(config: Config) -> Preprocessing:
    """What the trained network takes for an image: one centre crop, of as much as training crops show on average."""
    return dataclasses.replace(
        NAMED[config.preprocessing], image_size=config.image_size, resize=config.shorter_sides[0]
    )


def open_inputs(config: Config) -> Inputs:
    """The batches that a configuration asks for.

    Example:
    >>> open_inputs(RECIPES["demo"]).class_names[:2]  # doctest: +SKIP
    ('bars', 'bricks')
    """
    return _from_memory(config) if config.augmentation == "cifar" else _from_source(config)


def _from_source(config: Config) -> Inputs:
    from keras_resnet.data import augmentation, pipeline
    from keras_resnet.data.sources import open_pair

    training, test = open_pair(config.dataset, config.train_split, config.test_split, config.data_dir)
    print(
        f"Trains on {training.num_examples:,} images ({training.split}), tests on {test.num_examples:,} ({test.split})."
    )
    if training.class_names != test.class_names:
        raise ValueError(
            "Training and test set must have the same classes. "
            f"Received: {training.class_names[:5]}... and {test.class_names[:5]}..."
        )
    stack, _ = augmentation.for_device(_STACKS[config.augmentation](augmentation, config))
    shown = preprocessing(config)
    test_stack, normalisation = augmentation.for_device(augmentation.evaluation(shown))
    test_stack = test_stack[:-1]  # not rounded: what is measured is what any tool would measure
    size = config.batch_size
    return Inputs(
        lambda step, *share: pipeline.training(training, stack, size, config.seed, step, one_hot=True, share=share),
        lambda *share: pipeline.evaluation(test, test_stack, size, one_hot=True, share=share),
        training.num_examples,
        test.num_examples,
        training.class_names,
        augmentation.front(normalisation, (config.image_size, config.image_size, 3)),
    )


_STACKS = {
    "paper": lambda augmentation, config: augmentation.paper_imagenet(config.image_size, *config.shorter_sides),
    "inception": lambda augmentation, config: augmentation.inception(config.image_size),
    "modern": lambda augmentation, config: augmentation.modern(config.image_size),
}


def _from_memory(config: Config) -> Inputs:
    path = config.data_dir or os.environ.get("TFDS_DATA_DIR") or Path("~/tensorflow_datasets").expanduser()
    path = path if config.dataset == "cifar10" else config.dataset
    (images, labels), (test_images, test_labels) = (
        load_cifar10(path, split) for split in (config.train_split, config.test_split)
    )
    return in_memory(images, labels, test_images, test_labels, CIFAR10_CLASSES, config)


def in_memory(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    class_names: tuple[str, ...],
    config: Config,
) -> Inputs:
    """Small images of one size: they go to the device once, and a batch is four numbers an example.

    Which image, how far down and to the right the crop of the padded image begins, and whether it is mirrored: those
    are drawn here, by NumPy, so a seed means the same on every backend; the device cuts and normalises.

    Args:
        images: `(examples, height, width, 3)` of `uint8`.
        labels: `(examples,)` integers.
        test_images: as `images`.
        test_labels: as `labels`.
        class_names: the name of each class.
        config: batch size, seed and normalisation.

    Returns:
        The `Inputs`.

    Example:
    >>> x, y = np.zeros((100, 32, 32, 3), np.uint8), np.arange(100) % 10
    >>> inputs = in_memory(x, y, x, y, CIFAR10_CLASSES, RECIPES["cifar-paper"])
    >>> draws, targets = next(iter(inputs.training(0, 0, 1)))
    >>> [tuple(values.shape) for values in (draws, targets, inputs.front(draws))]
    [(128, 4), (128, 10), (128, 32, 32, 3)]
    """
    table = Table(np.concatenate([images, test_images]), NAMED[config.preprocessing])
    draws = keras.Input((4,), batch_size=None, dtype="int32")
    targets = np.eye(len(class_names), dtype="float32")
    index = len(images) + np.arange(len(test_images))
    straight = np.stack([index, *[np.full_like(index, _PADDING)] * 2, np.zeros_like(index)], axis=1)
    test = _Batches(straight.astype("int32"), targets[test_labels], config.batch_size)
    return Inputs(
        lambda step, *share: _rows(_RandomBatches(targets[labels], config.batch_size, config.seed, step), *share),
        lambda *share: _rows(test, *share),
        len(images),
        len(test_images),
        class_names,
        keras.Model(draws, table(draws), name="front"),
    )


def _rows(batches: keras.utils.PyDataset, worker: int, workers: int) -> Any:
    """A worker's rows of each batch: on TensorFlow a `tf.data.Dataset`, as Keras would make one."""
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    from keras_resnet.data.pipeline import without_waiting

    def rows():
        for batch in batches:
            mine = slice(*(len(batch[0]) * bound // workers for bound in (worker, worker + 1)))
            yield tuple(column[mine] for column in batch)

    first = next(rows())
    signature = tuple(tf.TensorSpec(column.shape, column.dtype) for column in first)
    return without_waiting(tf.data.Dataset.from_generator(rows, output_signature=signature))


class _RandomBatches(keras.utils.PyDataset):
    """From a step on without end: each epoch's examples in an order of its own, with a crop and a side for each.

    Not a generator: in a strategy's scope, `fit` begins with the data twice.
    """

    num_batches = None

    def __init__(self, targets: np.ndarray, batch_size: int, seed: int, step: int):
        super().__init__()
        self._targets, self._batch_size, self._step = targets, batch_size, step
        self._epoch = functools.lru_cache(maxsize=2)(functools.partial(_epoch, len(targets), seed))

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first, count = (self._step + number) * self._batch_size, len(self._targets)
        positions = range(first, first + self._batch_size)
        draws = np.stack([self._epoch(position // count)[position % count] for position in positions])
        return draws, self._targets[draws[:, 0]]


def _epoch(count: int, seed: int, number: int) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    order = random.permutation(count)
    corners = random.integers(0, 2 * _PADDING + 1, (count, 2))
    return np.stack([order, *corners.T, random.integers(0, 2, count)], axis=1).astype("int32")


class _Batches(keras.utils.PyDataset):
    """Examples in their order, in full batches: what fills up the last one has the weight 0."""

    def __init__(self, draws: np.ndarray, targets: np.ndarray, batch_size: int):
        super().__init__()
        self._columns, self._batch_size = (draws, targets), batch_size

    def __len__(self) -> int:
        return -(-len(self._columns[0]) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        positions = np.arange(number * self._batch_size, (number + 1) * self._batch_size)
        weights = (positions < len(self._columns[0])).astype("float32")
        positions = np.minimum(positions, len(self._columns[0]) - 1)
        return *(column[positions] for column in self._columns), weights


class Table(keras.layers.Layer):
    """Images on the device: from `(batch, 4)` draws to `(batch, height, width, 3)` normalised crops, float32.

    Beyond an image's edge is the mean colour: the padding is 0 after the mean has been subtracted.

    Args:
        images: `(examples, height, width, 3)` of `uint8`.
        preprocessing: the normalisation.
    """

    def __init__(self, images: np.ndarray, preprocessing: Preprocessing):
        super().__init__(dtype="float32", trainable=False, name="table")
        self._mean, self._std = (np.float32(values) for values in (preprocessing.mean, preprocessing.std))
        self._shape = images.shape[1:3]
        pixels = images.reshape(-1, 3)
        self.pixels = self.add_weight(
            pixels.shape, lambda shape, dtype: keras.ops.convert_to_tensor(pixels), "uint8", trainable=False
        )

    def call(self, draws):
        """Cuts and normalises."""
        ops = keras.ops
        height, width = self._shape
        index, down, right, mirrored = (draws[:, i : i + 1] for i in range(4))
        rows = down - _PADDING + ops.arange(height, dtype="int32")
        columns = ops.arange(width, dtype="int32")
        columns = right - _PADDING + ops.where(mirrored > 0, width - 1 - columns, columns)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        rows, columns = ops.clip(rows, 0, height - 1), ops.clip(columns, 0, width - 1)
        places = (index * height + rows)[:, :, None] * width + columns[:, None, :]
        colours = ops.cast(ops.take(self.pixels, places, axis=0), "float32")
        return ops.where(inside[..., None], (colours - self._mean) / self._std, 0.0)
