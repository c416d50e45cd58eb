"""What an opened source is, and the orders its examples are read in: as stored, or in a seeded shuffle without end.

TensorFlow is imported where a `tf.data.Dataset` is made, not before.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Source:
    """Images and labels from one place, as `open_source` returns them.

    Attributes:
        name: what was opened: a name or a path.
        split: the split's own name in that place, and the part of it, such as "val" or "train[:90%]".
        class_names: the name of each class; a label is an index into them.
        storage: where the examples are: a `Table` or `Shards`.
        encoded: whether an image is the scalar string of an image file (JPEG, PNG, ...), to be decoded, or an array
            of `uint8`.

    Example:
    >>> images = np.zeros((3, 32, 32, 3), np.uint8)
    >>> source = Source("mine", "train", ("cat", "dog"), Table(images, np.array([0, 1, 0])), encoded=False)
    >>> source.num_examples, source.num_classes
    (3, 2)
    >>> [int(label) for _, label in source.dataset()]
    [0, 1, 0]
    """

    name: str
    split: str
    class_names: tuple[str, ...] = dataclasses.field(repr=False)
    storage: "Table | Shards" = dataclasses.field(repr=False)
    encoded: bool = True

    @property
    def num_examples(self) -> int:
        """How many examples there are, exactly."""
        return len(self.storage)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def random_access(self) -> bool:
        """Whether any example can be read without those before it, so that a stream starts anywhere at no cost."""
        return isinstance(self.storage, Table)

    def dataset(self) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of all pairs of image and label, once, in the order in which they are stored."""
        return self.storage.dataset()

    def stream(self, seed: int, start: int = 0, buffer: int = 8192) -> "tf.data.Dataset":
        """Returns an endless `tf.data.Dataset` of shuffled pairs of image and label.

        Every epoch has each example once, in an order of its own; place `k` is in epoch `k // num_examples`. What
        stands there is a function of the seed (and the buffer) alone, so training that has consumed `n` examples goes
        on with `stream(seed, start=n)`.

        Args:
            seed: any integer.
            start: how many examples to leave out at the front. With random access this costs nothing; otherwise the
                examples of the epoch that is begun are read and dropped.
            buffer: how many examples to shuffle among where there is no random access; where there is, an epoch is
                shuffled as a whole.
        """
        return self.storage.stream(seed, start, buffer)

    def share(self, index: int, count: int) -> "Source":
        """Returns one of `count` equal parts of the source, which follow one another: one for each of as many workers.

        Example:
        >>> source = Source("mine", "train", ("cat",), Table(np.zeros((10, 8, 8, 3), np.uint8), np.zeros(10, int)))
        >>> [source.share(worker, 3).num_examples for worker in range(3)]
        [3, 3, 4]
        """
        if not 0 <= index < count <= self.num_examples:
            raise ValueError(
                f"A share is one of at most as many as there are examples, {self.num_examples}, counted from 0. "
                f"Received: index={index}, count={count}."
            )
        start, stop = (self.num_examples * bound // count for bound in (index, index + 1))
        return dataclasses.replace(self, storage=self.storage.part(start, stop))

    def in_memory(self) -> "Source":
        """Returns the same source, read into memory as it is stored: encoded images stay encoded."""
        return dataclasses.replace(self, storage=self.storage.in_memory())


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Examples that can be read in any order.

    Attributes:
        images: one image in each row: an array of `uint8` pixels, or an array of objects that are encoded images, or
            the paths of image files.
        labels: integers.
        are_paths: whether the images are paths.
    """

    images: np.ndarray
    labels: np.ndarray
    are_paths: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> "Table":
        """Returns the table of a range of rows."""
        return dataclasses.replace(self, images=self.images[start:stop], labels=self.labels[start:stop])

    def dataset(self) -> "tf.data.Dataset":
        """See `Source.dataset`."""
        import tensorflow as tf

        return _counted(self._read(tf.data.Dataset.range(len(self))), len(self))

    def stream(self, seed: int, start: int, buffer: int) -> "tf.data.Dataset":
        """See `Source.stream`."""
        import tensorflow as tf

        del buffer
        first, offset = divmod(start, len(self))

        def epoch(number):
            rows = _permutation(len(self), seed, number)
            return tf.data.Dataset.from_tensor_slices(rows[tf.where(number == first, offset, 0) :])

        return self._read(tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch))

    def in_memory(self) -> "Table":
        """See `Source.in_memory`."""
        return _table_of(self.dataset()) if self.are_paths else self

    def _read(self, rows: "tf.data.Dataset") -> "tf.data.Dataset":
        import tensorflow as tf

        with tf.device("CPU"):  # Not to the accelerator's memory: tf.data reads it from here.
            images = tf.constant(self.images, tf.string if self.images.dtype == object else None)
            labels = tf.constant(self.labels, tf.int64)

        def take(rows):
            return tf.gather(images, rows), tf.gather(labels, rows)

        def read(path, label):
            return tf.io.read_file(path), label

        pairs = rows.batch(256).map(take).unbatch()  # Taken one at a time, small images would come ten times slower.
        return pairs.map(read, tf.data.AUTOTUNE, deterministic=True) if self.are_paths else pairs


class Shard(NamedTuple):
    """A range of the records of one TFRecord file."""

    path: str
    skip: int
    take: int


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """Examples in TFRecord files, which are read from the front.

    Attributes:
        shards: the files, and what of each is meant.
        parse: a function from a record to its image and its label, in TensorFlow.
    """

    shards: tuple[Shard, ...]
    parse: Callable

    def __len__(self) -> int:
        return sum(shard.take for shard in self.shards)

    def part(self, start: int, stop: int) -> "Shards":
        """Returns the shards of a range of the records."""
        parts, before = [], 0
        for path, skip, take in self.shards:
            first, last = max(start - before, 0), min(stop - before, take)
            if first < last:
                parts.append(Shard(path, skip + first, last - first))
            before += take
        return dataclasses.replace(self, shards=tuple(parts))

    def dataset(self) -> "tf.data.Dataset":
        """See `Source.dataset`."""
        import tensorflow as tf

        shards = tf.data.Dataset.from_tensor_slices(self._columns())
        return _counted(self._parsed(shards.flat_map(_records)), len(self))

    def stream(self, seed: int, start: int, buffer: int) -> "tf.data.Dataset":
        """See `Source.stream`."""
        import tensorflow as tf

        columns, count = tuple(map(tf.constant, self._columns())), len(self.shards)

        def epoch(number):
            order = _permutation(count, seed, number)
            shards = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(column, order) for column in columns))
            records = shards.interleave(
                _records, cycle_length=min(count, 16), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            # tf.data mixes in the graph's seed, by default the process's: here the order is to be our seed's alone.
            tf.compat.v1.get_default_graph().seed = 1
            key = _random_bits([], seed, number)
            return records.shuffle(min(buffer, len(self)), seed=key, reshuffle_each_iteration=False)

        first, offset = divmod(start, len(self))
        return self._parsed(tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch).skip(offset))

    def in_memory(self) -> "Table":
        """See `Source.in_memory`."""
        return _table_of(self.dataset())

    def _columns(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        paths, skips, takes = zip(*self.shards)
        return list(paths), np.array(skips, np.int64), np.array(takes, np.int64)

    def _parsed(self, records: "tf.data.Dataset") -> "tf.data.Dataset":
        import tensorflow as tf

        return records.map(self.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _counted(dataset: "tf.data.Dataset", count: int) -> "tf.data.Dataset":
    """Tells a dataset how many elements it has; reading it raises an error if that is not true."""
    import tensorflow as tf

    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _permutation(count: int, seed: int, epoch: "tf.Tensor") -> "tf.Tensor":
    """The numbers below `count` in an order of the seed's and the epoch's own."""
    import tensorflow as tf

    return tf.argsort(_random_bits([count], seed, epoch))


def _random_bits(shape: list[int], seed: int, epoch: "tf.Tensor") -> "tf.Tensor":
    """Integers of 64 random bits, which are a function of the seed and the epoch."""
    import tensorflow as tf

    return tf.random.stateless_uniform(shape, [seed, epoch], None, None, tf.int64, alg="philox")


def _records(path: "tf.Tensor", skip: "tf.Tensor", take: "tf.Tensor") -> "tf.data.Dataset":
    """The serialised records of one shard."""
    import tensorflow as tf

    return tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(skip).take(take)


def _table_of(dataset: "tf.data.Dataset") -> Table:
    """The table of all examples of a dataset of encoded images."""
    images, labels = zip(*dataset.batch(1024).as_numpy_iterator())
    return Table(np.concatenate(images), np.concatenate(labels))
