"""TFRecord files of labelled images, their parts named as TF-Slim and the Model Garden name them.

These are `image/encoded`, `image/class/label` and, in some, `image/class/text`. The files do not say how many classes
there are, nor whether the first of them has the number 0 or 1 (ImageNet's has 1).
"""

import json
import re
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING

import numpy as np

from keras_resnet.data import files, records, splits
from keras_resnet.data.storage import Shard, Shards, Source

if TYPE_CHECKING:
    import tensorflow as tf

LABELS = "labels.txt"  # TF-Slim's: a line "label:name" for each class
SIZES = "sizes-{split}.json"  # what `prepare.pack` writes: how many records, and bytes, each file has
_FILE = re.compile(r".*\.tfrecords?|(?P<rest>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def open_tfrecords(path: str, split: str, num_classes: int | None = None, label_offset: int | None = None) -> Source:
    """Opens a folder of TFRecord files such as `train-00000-of-01024`.

    What split a file belongs to is a word of its name, or the folder it is in; if no file tells, all are "train". If
    there is a `labels.txt` with a line "label:name" for each class (as TF-Slim and `prepare.pack` write it), that says
    which classes there are. Otherwise every label in the files is looked at to find out what is not said of
    `num_classes` and `label_offset`. Say both for large data: then only the lengths of the records are read at once,
    and labels are checked as they come.

    Args:
        path: the folder, local or with a scheme.
        split: the name of a split, without a part.
        num_classes: the number of classes.
        label_offset: the label of the first class, 0 or 1.

    Returns:
        A `Source` whose images are encoded. Its classes have the names that are in the files, if all labels were looked
        at, or else their numbers.

    Example:
    >>> open_tfrecords("imagenet", "validation", num_classes=1000, label_offset=1).num_examples  # doctest: +SKIP
    50000
    """
    layout = _files_by_split(path)
    split = splits.find(split, layout)
    counts = _counts(files.join(path, SIZES.format(split=split)), layout[split])
    shards = tuple(Shard(file, 0, count) for file, count in zip(layout[split], counts) if count)
    if not shards:
        raise ValueError(f"The files of this split hold no records. Received: split={split!r} of {path}.")
    names = _names(path)
    if names and num_classes is None and label_offset is None:
        num_classes, label_offset = len(names), min(names)
    if num_classes is None or label_offset is None:
        names = _survey([file for of_split in layout.values() for file in of_split])
        num_classes, label_offset = _numbering(sorted(names), num_classes, label_offset)
    class_names = tuple(names.get(label + label_offset) or str(label) for label in range(num_classes))
    return Source(path, split, class_names, Shards(shards, _parser(num_classes, label_offset)))


def _counts(notes: str, paths: list[str]) -> list[int]:
    """How many records each file has: as it is noted, or by walking through it where its size is not the noted one."""
    noted = json.loads(files.read_bytes(notes)) if files.exists(notes) else {}

    def count(path: str) -> int:
        known, size = noted.get(path.rpartition("/")[2], (0, -1))
        return known if files.size(path) == size else records.count_records(path)

    with futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(count, paths))


def has_tfrecords(path: str) -> bool:
    """Tells whether there are files in a folder, or in its splits' folders, that are called as TFRecord files are."""
    return bool(_files(path))


def in_range(label: "tf.Tensor", num_classes: int) -> "tf.Tensor":
    """Returns a label as it is, in TensorFlow, and raises an error where it is no class's."""
    import tensorflow as tf

    told = ["A label does not fit the number of classes. Received:", label, num_classes]
    with tf.control_dependencies([tf.Assert((label >= 0) & (label < num_classes), told)]):
        return tf.identity(label)


def _files(path: str) -> list[str]:
    """The TFRecord files of a folder, relative to it: those in it, or else those in the folders of its splits."""
    names, folders = files.listing(path)
    nested = [
        f"{folder}/{name}"
        for folder in folders
        if folder.lower() in splits.NAMES
        for name in files.listing(files.join(path, folder))[0]
    ]
    return [name for name in names if _FILE.fullmatch(name)] or [name for name in nested if _FILE.fullmatch(name)]


def _files_by_split(path: str) -> dict[str, list[str]]:
    """The paths of the files of each split."""
    by_split = {}
    for name in _files(path):
        words = [word for word in re.findall("[a-z]+", name.lower()) if word in splits.NAMES]
        by_split.setdefault(words[0] if words else None, []).append(name)
    unnamed = by_split.pop(None, [])
    for names in (by_split := by_split or {"train": unnamed}).values():
        _check_complete(path, names)
    return {split: [files.join(path, name) for name in names] for split, names in by_split.items()}


def _names(path: str) -> dict[int, str]:
    """The names in `labels.txt` by label; none if there is no such file, or if it has gaps."""
    file = files.join(path, LABELS)
    lines = files.read_bytes(file).decode().splitlines() if files.exists(file) else []
    names = {int(label): name for label, _, name in (line.partition(":") for line in lines if line)}
    return names if names and sorted(names) == list(range(min(names), min(names) + len(names))) else {}


def _check_complete(path: str, names: list[str]) -> None:
    """Refuses a set of files in which numbers are missing, `x-00000-of-00002` without `x-00001-of-00002`."""
    sets = {(match["rest"], match["count"]) for match in map(_FILE.fullmatch, names) if match["count"]}
    expected = {f"{rest}-{number:05}-of-{count}" for rest, count in sets for number in range(int(count))}
    if missing := sorted(expected - set(names)):
        raise ValueError(f"{len(missing)} TFRecord files are missing, the first is {missing[0]}. Received: {path}.")


def _survey(paths: list[str]) -> dict[int, str]:
    """Looks at every label: returns the class names by label, empty where the files have none."""
    import tensorflow as tf

    features = {
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/class/text": tf.io.FixedLenFeature([], tf.string, ""),
    }
    examples = tf.data.TFRecordDataset(paths, num_parallel_reads=8).batch(512)
    names = {}
    try:
        for example in examples.map(lambda batch: tf.io.parse_example(batch, features)).as_numpy_iterator():
            labels, firsts = np.unique(example["image/class/label"], return_index=True)
            texts = [text.decode(errors="replace") for text in example["image/class/text"][firsts]]
            names = dict(zip(labels.tolist(), texts)) | names
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise ValueError(
            "These TFRecord files are damaged, or not of labelled images, which have 'image/encoded' and "
            f"'image/class/label'. Received: {paths[0]}."
        ) from error
    return names


def _numbering(labels: list[int], num_classes: int | None, label_offset: int | None) -> tuple[int, int]:
    """Completes the number of classes and the label of the first of them, if the labels there are leave no doubt."""
    low, high = (labels[0], labels[-1]) if labels else (0, -1)
    if label_offset is None and low in (0, 1) and (low == 0 or high == (num_classes or len(labels))):
        label_offset = low
    if num_classes is None and label_offset is not None and len(labels) == high + 1 - label_offset:
        num_classes = len(labels)
    if label_offset is None or num_classes is None:
        raise ValueError(
            "The labels in these TFRecord files do not tell which classes there are. Say num_classes, and say "
            f"label_offset, the label of the first class. Received: num_classes={num_classes}, "
            f"label_offset={label_offset}, labels {labels[:20]}."
        )
    if not 0 <= low - label_offset <= high - label_offset < num_classes:
        raise ValueError(
            f"The labels in these TFRecord files reach from {low} to {high}, which does not fit. "
            f"Received: num_classes={num_classes}, label_offset={label_offset}."
        )
    return num_classes, label_offset


def _parser(num_classes: int, label_offset: int) -> Callable:
    """The function from a record to its image, still encoded, and its label, counted from 0."""
    import tensorflow as tf

    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(record):
        example = tf.io.parse_single_example(record, features)
        return example["image/encoded"], in_range(example["image/class/label"] - label_offset, num_classes)

    return parse
