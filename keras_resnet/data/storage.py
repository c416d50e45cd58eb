"""What an opened source is, and the orders its examples are read in: as stored, or in a seeded shuffle without end.

TensorFlow is imported where a `tf.data.Dataset` is made, not before.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_TAKEN_AT_ONCE = 256


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
        return self._pairs(self.examples())

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
        return self._pairs(self.storage.stream(seed, start, buffer))

    def examples(self) -> "tf.data.Dataset":
        """Returns what `dataset` does, before images are read: triples of number, image (see `read`) and label."""
        return self.storage.examples()

    def batches(
        self, seed: int, size: int, start_step: int = 0, buffer: int = 8192, scattered: bool = False
    ) -> "tf.data.Dataset":
        """Returns the examples of `stream` in batches, before images are read.

        Args:
            seed: as in `stream`.
            size: examples in each batch.
            start_step: how many batches to leave out at the front.
            buffer: as in `stream`.
            scattered: whether several workers of the tf.data service share out the examples among them. Each epoch has
                each example once, but the order is another, and epochs of shards overlap a little.

        Returns:
            An endless `tf.data.Dataset` of serial numbers, images (see `read`) and labels, each of shape `(size,)`. A
            serial number is `epoch * num_examples + number`, where the number is the example's own.
        """
        return self.storage.batches(seed, size, start_step, buffer, scattered)

    def read(self, image: "tf.Tensor") -> "tf.Tensor":
        """Reads an image of `examples` or `batches`: where that is a path, the file."""
        return self.storage.read(image)

    def names(self, numbers: "tf.Tensor") -> "tf.Tensor":
        """Where examples are, in words, as string tensor: for messages."""
        return self.storage.names(numbers)

    def _pairs(self, examples: "tf.data.Dataset") -> "tf.data.Dataset":
        import tensorflow as tf

        return examples.map(lambda _, image, label: (self.read(image), label), tf.data.AUTOTUNE, deterministic=True)

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

    def examples(self) -> "tf.data.Dataset":
        """See `Source.examples`."""
        import tensorflow as tf

        # Taken one at a time, small images would come ten times slower.
        rows = tf.data.Dataset.range(len(self)).batch(_TAKEN_AT_ONCE)
        return _counted(rows.map(self._taker()).unbatch(), len(self))

    def stream(self, seed: int, start: int, buffer: int) -> "tf.data.Dataset":
        """See `Source.stream`; triples, as those of `Source.batches`."""
        step, offset = divmod(start, _TAKEN_AT_ONCE)
        return self.batches(seed, _TAKEN_AT_ONCE, step, buffer).unbatch().skip(offset)

    def batches(self, seed: int, size: int, start_step: int, buffer: int, scattered: bool = False) -> "tf.data.Dataset":
        """See `Source.batches`."""
        import tensorflow as tf

        del buffer, scattered  # Any step can be made anywhere.
        take = self._taker()

        def batch(step):
            epoch, place = _divmod(step * size + tf.range(size, dtype=tf.int64), len(self))
            rows = _permuted(place, len(self), seed, epoch)
            return epoch * len(self) + rows, *take(rows)[1:]

        return tf.data.Dataset.range(start_step, tf.int64.max).map(batch, tf.data.AUTOTUNE, deterministic=True)

    def read(self, image: "tf.Tensor") -> "tf.Tensor":
        """See `Source.read`."""
        import tensorflow as tf

        return tf.io.read_file(image) if self.are_paths else image

    def names(self, numbers: "tf.Tensor") -> "tf.Tensor":
        """See `Source.names`."""
        import tensorflow as tf

        if self.are_paths:
            return tf.gather(self._columns[0], numbers)
        return tf.strings.join(["image ", tf.strings.as_string(numbers)])

    def in_memory(self) -> "Table":
        """See `Source.in_memory`."""
        return _table_of(self.examples(), self.read) if self.are_paths else self

    def _taker(self) -> Callable:
        """The function from rows to rows, images and labels."""
        import tensorflow as tf

        images, labels = self._columns
        return lambda rows: (rows, tf.gather(images, rows), tf.gather(labels, rows))

    @functools.cached_property
    def _columns(self) -> "tuple[tf.Tensor, tf.Tensor]":
        """Images and labels in TensorFlow's memory: once, and not within the graphs that look at them."""
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU"):  # Not to the accelerator's memory: tf.data reads it from here.
            images = tf.constant(self.images, tf.string if self.images.dtype == object else None)
            return images, tf.constant(self.labels, tf.int64)


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

    def examples(self) -> "tf.data.Dataset":
        """See `Source.examples`."""
        import tensorflow as tf

        shards = tf.data.Dataset.from_tensor_slices(self._columns())
        return _counted(self._parsed(shards.flat_map(_records)), len(self))

    def stream(self, seed: int, start: int, buffer: int) -> "tf.data.Dataset":
        """See `Source.stream`; triples, as those of `Source.batches`."""
        import tensorflow as tf

        first, offset = divmod(start, len(self))

        def epoch(number):
            turns = number * len(self.shards) + tf.range(len(self.shards), dtype=tf.int64)
            return self._shuffled(tf.data.Dataset.from_tensor_slices(turns), seed, number, buffer)

        return self._parsed(tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch).skip(offset))

    def batches(self, seed: int, size: int, start_step: int, buffer: int, scattered: bool = False) -> "tf.data.Dataset":
        """See `Source.batches`."""
        import tensorflow as tf

        if scattered:  # What the service shares out are the elements of the first dataset: here, shards.
            turns = tf.data.Dataset.range(start_step * size // len(self) * len(self.shards), tf.int64.max)
            triples = self._parsed(self._shuffled(turns, seed, 0, buffer))
        else:
            triples = self.stream(seed, start_step * size, buffer)
        return triples.batch(size, drop_remainder=True)

    def read(self, image: "tf.Tensor") -> "tf.Tensor":
        """See `Source.read`: here images come with their records."""
        return image

    def names(self, numbers: "tf.Tensor") -> "tf.Tensor":
        """See `Source.names`."""
        import tensorflow as tf

        paths, skips, _, before = self._columns()
        shard = tf.searchsorted(before, numbers, side="right") - 1
        record = tf.strings.as_string(numbers - tf.gather(before, shard) + tf.gather(skips, shard))
        return tf.strings.join(["record ", record, " (from 0) of ", tf.gather(tf.constant(paths), shard)])

    def in_memory(self) -> "Table":
        """See `Source.in_memory`."""
        return _table_of(self.examples(), self.read)

    def _columns(self) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Of each shard: its path, what to skip and to take, and how many examples come before."""
        paths, skips, takes = zip(*self.shards)
        return list(paths), np.array(skips), np.array(takes), np.cumsum([0, *takes[:-1]])

    def _shuffled(self, turns: "tf.data.Dataset", seed: int, epoch: "tf.Tensor", buffer: int) -> "tf.data.Dataset":
        """Pairs of serial number and record; `turns` number the shards through all epochs."""
        import tensorflow as tf

        from keras_resnet.data import draws

        columns, count = tuple(map(tf.constant, self._columns())), len(self.shards)

        def shard(turn):
            epoch, place = _divmod(turn, count)
            path, skip, take, before = (tf.gather(column, _permuted(place, count, seed, epoch)) for column in columns)
            return _records(path, skip, take, epoch * len(self) + before)

        records = turns.interleave(
            shard, cycle_length=min(count, 16), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        # tf.data mixes in the graph's seed, by default the process's: here the order is to be our seed's alone.
        tf.compat.v1.get_default_graph().seed = 1
        key = tf.bitcast(draws.example_keys(seed, epoch, -2), tf.int64)
        return records.shuffle(min(buffer, len(self)), seed=key, reshuffle_each_iteration=False)

    def _parsed(self, records: "tf.data.Dataset") -> "tf.data.Dataset":
        import tensorflow as tf

        def parse(number, record):
            return number, *self.parse(record)

        return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _counted(dataset: "tf.data.Dataset", count: int) -> "tf.data.Dataset":
    """Tells a dataset how many elements it has; reading it raises an error if that is not true."""
    import tensorflow as tf

    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _divmod(number: "tf.Tensor", by: int) -> tuple["tf.Tensor", "tf.Tensor"]:
    return number // by, number % by


def _permuted(place: "tf.Tensor", count: int, seed: int, epoch: "tf.Tensor") -> "tf.Tensor":
    """What stands at a place (or at places) of the numbers below `count` in the order of a seed and an epoch.

    A cipher (RandomIndexShuffle), so that no order needs to be made, or kept, as a whole.
    """
    import tensorflow as tf

    from keras_resnet.data import draws

    keys = draws.bits(draws.example_keys(seed, epoch, -1), 2)
    keys = tf.reshape(tf.bitcast(keys, tf.int32), (*place.shape, 4))[..., :3]
    last = tf.constant(count - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=place, seed=keys, max_index=last, rounds=4)


def _records(path: "tf.Tensor", skip: "tf.Tensor", take: "tf.Tensor", before: "tf.Tensor") -> "tf.data.Dataset":
    """The serialised records of one shard, numbered from `before`."""
    import tensorflow as tf

    return tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(skip).take(take).enumerate(before)


def _table_of(examples: "tf.data.Dataset", read: Callable) -> Table:
    """The table of all examples, which are encoded images."""
    import tensorflow as tf

    pairs = examples.map(lambda _, image, label: (read(image), label), tf.data.AUTOTUNE, deterministic=True)
    images, labels = zip(*pairs.batch(1024).as_numpy_iterator())
    return Table(np.concatenate(images), np.concatenate(labels))
