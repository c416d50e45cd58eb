"""One door to images and labels, wherever they are: `open_source`.

Nothing is ever downloaded. What tfds has not prepared is refused at once, with the command that prepares it.
"""

import dataclasses
import json
import os
import pathlib
import re
import shlex
from typing import TYPE_CHECKING

from keras_resnet.architectures import nearest
from keras_resnet.data import cifar, files, folders, splits, tfrecords
from keras_resnet.data.storage import Shard, Shards, Source, Table

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

__all__ = ["Source", "open_source"]


def open_source(
    name_or_dir: str | os.PathLike,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    num_classes: int | None = None,
    label_offset: int | None = None,
) -> Source:
    """Opens images and labels for reading.

    Args:
        name_or_dir: one of:

            - `"demo"`: the demo set, which is drawn on first use (see `keras_resnet.data.demo`).
            - The name of an image classification set of tfds: `"cifar10"`, `"imagenet2012"`, `"tf_flowers"`, with a
              configuration and a version if need be: `"imagenet_resized/32x32"`, `"cifar10:3.0.2"`.
            - A folder, local or with a scheme such as `gs://`, with a folder for each class (see
              `keras_resnet.data.folders`), TFRecord files (see `keras_resnet.data.tfrecords`), CIFAR-10's own files, or
              what tfds has prepared; or CIFAR-10's archive. If tfds knows a set of the same name, a folder is written
              with its place: `"./cifar10"`.
        split: "train"; or "validation", "val" or "test", which stand for one another where the one that is asked for
            is not there; or a part of a split such as "train[:90%]", "train[90%:]" or "test[:1000]".
        data_dir: where tfds keeps its data, for a name. By default `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`. For
            "cifar10" it may be CIFAR-10's archive, or the folder of its own files.
        num_classes: for TFRecord files only: the number of classes.
        label_offset: for TFRecord files only: the label of the first class, 0 or 1.

    Returns:
        A `Source`. Its `split` says which split was found.

    Raises:
        FileNotFoundError: if the data is not there; for a name, the message has the command that prepares it.
        ValueError: if the data is not what it should be, or if there is no such split.

    Example:
    >>> source = open_source("demo", "train[:90%]")  # doctest: +SKIP
    >>> source.num_examples, source.class_names[:3]  # doctest: +SKIP
    (1800, ('bars', 'bricks', 'checks'))
    >>> image, label = next(iter(source.dataset()))  # doctest: +SKIP
    """
    name, bounds = splits.parse(split)
    if name_or_dir == "cifar10" and data_dir is not None and cifar.is_cifar10(os.fspath(data_dir)):
        name_or_dir, data_dir = pathlib.Path(data_dir), None
    options = {"num_classes": num_classes, "label_offset": label_offset}
    options = {option: value for option, value in options.items() if value is not None}
    path = _path(name_or_dir, data_dir)
    source = _open_path(path, name, data_dir, options) if path else _open_name(name_or_dir, name, data_dir, options)
    start, stop = bounds(source.num_examples)
    if stop - start == source.num_examples:
        return source
    part = split.removeprefix(name)
    return dataclasses.replace(source, split=source.split + part, storage=source.storage.part(start, stop))


def open_test(
    name_or_dir: str | os.PathLike, split: str = "validation", data_dir: str | os.PathLike | None = None
) -> Source:
    """Opens what a network is tested on: a split, or the last fifth of `train` where it has no test set of any name.

    Args:
        name_or_dir: as `open_source` takes it.
        split: what is tested on.
        data_dir: where tfds keeps its data, for a name.

    Returns:
        The source; its `split` says what was found.

    Example:
    >>> open_test("photos/").split  # doctest: +SKIP
    'train[80%:]'
    """
    try:
        return open_source(name_or_dir, split, data_dir=data_dir)
    except splits.NoSuchSplit as error:
        if splits.parse(split)[0].lower() not in splits.SYNONYMS[1]:  # misspelled, perhaps
            raise
        try:
            return open_source(name_or_dir, "train[80%:]", data_dir=data_dir)
        except splits.NoSuchSplit:
            raise error from None


def open_pair(
    name_or_dir: str | os.PathLike,
    train_split: str = "train",
    test_split: str = "validation",
    data_dir: str | os.PathLike | None = None,
) -> tuple[Source, Source]:
    """Opens a training set, and a test set as `open_test` does: what is kept for it is not trained on.

    Args:
        name_or_dir: as `open_source` takes it.
        train_split: what is trained on.
        test_split: what is tested on.
        data_dir: where tfds keeps its data, for a name.

    Returns:
        Two sources; their `split`s say what was found.

    Example:
    >>> [source.split for source in open_pair("photos/")]  # doctest: +SKIP
    ['train[:80%]', 'train[80%:]']
    """
    test = open_test(name_or_dir, test_split, data_dir)
    kept = _is_of_train(test.split) and not _is_of_train(test_split)
    if kept and train_split.lower() not in splits.SYNONYMS[0]:
        raise splits.NoSuchSplit(
            f"{test_split!r} is not there to test on: name a part of 'train' that {train_split!r} leaves out. "
            f"Received: test_split={test_split!r}."
        )
    return open_source(name_or_dir, "train[:80%]" if kept else train_split, data_dir=data_dir), test


def _is_of_train(split: str) -> bool:
    return split.partition("[")[0].lower() in splits.SYNONYMS[0]


def _path(name_or_dir: str | os.PathLike, data_dir: str | os.PathLike | None) -> str | None:
    """The path that is meant, or nothing if it is a name. What is there is a path if tfds knows no set of that name."""
    text = os.fspath(name_or_dir)
    if files.is_remote(text):
        return text
    if (
        isinstance(name_or_dir, os.PathLike)
        or text.startswith(("/", ".", "~"))
        or text.endswith(("/", *cifar.ARCHIVES))
    ):
        return str(pathlib.Path(text).expanduser())
    is_name = data_dir is not None or not files.exists(text) or text in _names()
    return None if is_name else text


def _names() -> list[str]:
    """The names that can be opened."""
    import tensorflow_datasets as tfds

    return ["demo", *tfds.list_builders(with_community_datasets=False)]


def _open_path(path: str, split: str, data_dir: str | os.PathLike | None, options: dict[str, int]) -> Source:
    """Opens what is at a path. What kind of data it is, the names of the files tell."""
    if not files.exists(path):
        raise FileNotFoundError(f"There is no such file or folder. Received: {path}.")
    if data_dir is not None:
        raise ValueError(
            f"data_dir goes with the name of a dataset, not with a path. Received: {data_dir!r}, {path!r}."
        )
    if not files.is_dir(path) and not path.endswith(cifar.ARCHIVES):
        raise ValueError(f"This is neither a folder nor the archive of CIFAR-10. Received: {path}.")
    kinds = (
        (files.is_prepared, _open_directory),
        (cifar.is_cifar10, _open_cifar10),
        (tfrecords.has_tfrecords, tfrecords.open_tfrecords),
        (files.is_dir, folders.open_folder),
    )
    opener = next(opener for recognises, opener in kinds if recognises(path))
    if options and opener is not tfrecords.open_tfrecords:
        raise ValueError(f"Only TFRecord files take these options, and here are none. Received: {options}, {path}.")
    return opener(path, split, **options)


def _open_name(name: str, split: str, data_dir: str | os.PathLike | None, options: dict[str, int]) -> Source:
    """Opens the demo set, or what tfds has prepared."""
    if options:
        raise ValueError(f"Only TFRecord files take these options, not a name. Received: {options}, {name!r}.")
    if name == "demo":
        from keras_resnet.data import demo

        return _open_builder(name, demo.prepare(data_dir), split)
    builder = _builder(name, data_dir)
    _image_and_label(builder.info)  # Before anybody is asked to prepare what would then not do.
    if not files.is_prepared(builder.data_dir):
        raise FileNotFoundError(_how_to_prepare(name, builder))
    return _open_builder(name, builder, split)


def _builder(name: str, data_dir: str | os.PathLike | None) -> "tfds.core.DatasetBuilder":
    """The tfds builder of a name, or an error that lists names which are like it."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except ValueError:  # Not found, or no name at all.
        word = re.split("[/:]", name)[0]
        if word in _names():
            raise
        hint = nearest(word, _names())
        raise ValueError(
            f"There is no dataset of this name in tfds, and no such folder.{hint} Received: {name!r}."
        ) from None


def _how_to_prepare(name: str, builder: "tfds.core.DatasetBuilder") -> str:
    """What to do about a dataset that tfds knows and has not prepared."""
    root = builder.data_dir.removesuffix(builder.info.full_name).rstrip("/")
    code = f"tfds.builder({json.dumps(name)}, data_dir={json.dumps(root)}).download_and_prepare()"
    by_hand = (builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").strip()
    return (
        f"{name} is not prepared: there is no {builder.data_dir}. "
        + (f"First put the files into {root}/downloads/manual: {by_hand}\nThen prepare them:\n" if by_hand else "")
        + ("" if by_hand else "Nothing is downloaded unless you say so, which is:\n")
        + f"python -c {shlex.quote('import tensorflow_datasets as tfds; ' + code)}"
    )


def _open_directory(path: str, split: str) -> Source:
    """Opens the folder of one version of a dataset that tfds has prepared, whether its code is at hand or not."""
    import tensorflow_datasets as tfds

    return _open_builder(path, tfds.builder_from_directory(path), split)


def _open_builder(name: str, builder: "tfds.core.DatasetBuilder", split: str) -> Source:
    """Opens what a tfds builder has prepared. Records are read as tfds describes them, images left encoded."""
    import tensorflow_datasets as tfds

    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            "Of the formats that tfds writes, only TFRecord can be read. "
            f"Received: {builder.info.file_format} in {builder.data_dir}."
        )
    image, label = _image_and_label(builder.info)
    features = tfds.features.FeaturesDict({key: builder.info.features[key] for key in (image, label)})
    class_names = tuple(features[label].names)

    def parse(record):
        example = features.deserialize_example(record, decoders={image: tfds.decode.SkipDecoding()})
        return example[image], tfrecords.in_range(example[label], len(class_names))

    split = splits.find(split, builder.info.splits)
    shards = tuple(
        Shard(os.fspath(file.filename), file.skip, file.take) for file in builder.info.splits[split].file_instructions
    )
    return Source(name, split, class_names, Shards(shards, parse))


def _image_and_label(info: "tfds.core.DatasetInfo") -> tuple[str, ...]:
    """The names of the image and of the label; of several, those that tfds takes for supervised training."""
    import tensorflow_datasets as tfds

    found = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        keys = [key for key, feature in info.features.items() if isinstance(feature, kind)]
        found.append([key for key in keys if key in (info.supervised_keys or ())] or keys)
    if any(len(keys) != 1 for keys in found):
        raise ValueError(
            "A dataset for image classification has one image and one label. "
            f"Received: {info.full_name}, with the images {found[0]} and the labels {found[1]}."
        )
    return tuple(key for (key,) in found)


def _open_cifar10(path: str, split: str) -> Source:
    """Opens CIFAR-10's own files, which are not encoded."""
    images, labels = cifar.load_cifar10(path, split)
    return Source(path, splits.find(split, ["train", "test"]), cifar.CLASS_NAMES, Table(images, labels), encoded=False)
