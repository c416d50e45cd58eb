"""CIFAR-10 from its own files, or as tfds prepares it, with numpy alone: TensorFlow is not needed.

The dataset's page, https://www.cs.toronto.edu/~kriz/cifar.html, has it as pickles ("python version") and as plain bytes
("binary version"). Both are read from the archive or from the folder it unpacks to.
"""

import functools
import io
import os
import pickle
import pickletools
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator

import numpy as np

from keras_resnet.data import files, png, records, splits
from keras_resnet.preprocessing import CIFAR10_CLASSES as CLASS_NAMES

ARCHIVES = (".tar.gz", ".tgz", ".tar")

_BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
_OWN_FILES = frozenset(name + ending for names in _BATCHES.values() for name in names for ending in ("", ".bin"))
_SUBFOLDERS = re.compile(r"cifar-10-batches-(py|bin)|cifar10|\d+\.\d+\.\d+")
_PLANES = (3, 32, 32)

Read = Callable[[], bytes]
Decode = Callable[[bytes], tuple[np.ndarray, np.ndarray]]


def load_cifar10(path: str | os.PathLike, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads CIFAR-10.

    Args:
        path: the archive of the python or of the binary version, the folder it unpacks to, or the folder that tfds has
            prepared (`.../cifar10/3.0.2`). The folder that one of these folders lies in will do.
        split: "train" or "test", or a part of one such as "train[:90%]".

    Returns:
        The images, `uint8` of shape `(count, 32, 32, 3)`, and the labels, `int64` of shape `(count,)`, in the order in
        which they are stored.

    Example:
    >>> images, labels = load_cifar10("cifar-10-python.tar.gz", "train")  # doctest: +SKIP
    >>> images.shape, labels.shape  # doctest: +SKIP
    ((50000, 32, 32, 3), (50000,))
    """
    name, bounds = splits.parse(split)
    batches = [_decoded(*batch) for batch in _find(os.fspath(path), splits.find(name, _BATCHES))]
    images, labels = (np.concatenate(column) for column in zip(*batches))
    part = slice(*bounds(len(labels)))
    return images[part], labels[part]


def is_cifar10(path: str) -> bool:
    """Tells whether a path looks like CIFAR-10's own files: an archive, or a folder with files of their names.

    Args:
        path: the path of a file or of a folder.

    Returns:
        Whether `load_cifar10` should be tried on it.

    Example:
    >>> is_cifar10("cifar-10-python.tar.gz")
    True
    """
    return path.endswith(ARCHIVES) or any(_OWN_FILES & set(names) for names in _folders(path))


def _find(path: str, split: str) -> list[tuple[Decode, str, Read]]:
    """The files of a split: how each is decoded, what it is called, and a function that reads it."""
    for there in [_archived(path)] if path.endswith(ARCHIVES) else _folders(path):
        for names, decode in _layouts(split, there):
            missing = sorted(set(names) - set(there))
            if names and not missing:
                return [(decode, name, there[name]) for name in names]
            if len(missing) < len(names):
                raise ValueError(f"CIFAR-10 is not complete here: {missing} missing. Received: path={path!r}.")
    raise ValueError(
        "There is no CIFAR-10 here: neither its archive, nor the folder that it unpacks to, nor one that tfds has "
        f"prepared. The archives are at https://www.cs.toronto.edu/~kriz/cifar.html. Received: path={path!r}."
    )


def _layouts(split: str, there: dict[str, Read]) -> Iterator[tuple[tuple[str, ...], Decode]]:
    """Yields the file names that make up a split, and how such files are decoded, for each form CIFAR-10 comes in."""
    yield _BATCHES[split], _from_pickle
    yield tuple(f"{name}.bin" for name in _BATCHES[split]), _from_bytes
    shards = re.compile(rf"cifar10-{split}\.tfrecord-\d{{5}}-of-(\d{{5}})")
    counts = {int(match[1]) for match in map(shards.fullmatch, there) if match}
    for count in counts:
        yield tuple(f"cifar10-{split}.tfrecord-{shard:05}-of-{count:05}" for shard in range(count)), _from_records


def _folders(path: str) -> Iterator[dict[str, Read]]:
    """Yields what a folder holds, and then what the folders in it do that CIFAR-10 may be in: readers by file names."""
    if not files.is_dir(path):
        return
    names, folders = files.listing(path)
    yield {name: functools.partial(files.read_bytes, files.join(path, name)) for name in names}
    for folder in reversed(folders):  # Of several versions, the last.
        if _SUBFOLDERS.fullmatch(folder):
            yield from _folders(files.join(path, folder))


def _archived(path: str) -> dict[str, Read]:
    """What a tar archive holds of CIFAR-10, by the names of the files without their folders, read in one go."""
    contents = {}
    with files.open_binary(path) as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            name = posixpath.basename(member.name)
            if member.isfile() and name in _OWN_FILES:
                contents[name] = functools.partial(bytes, archive.extractfile(member).read())
    return contents


def _decoded(decode: Decode, name: str, read: Read) -> tuple[np.ndarray, np.ndarray]:
    """Decodes one file; whatever is wrong with it is told with its name."""
    data = read()
    try:
        images, labels = decode(data)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(CLASS_NAMES):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}")
        return images, labels
    except Exception as error:  # A damaged pickle can raise almost anything.
        raise ValueError(f"This file of CIFAR-10 is damaged: {name} ({error})") from error


def _from_bytes(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The binary version: for each image its label, then its pixels."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + np.prod(_PLANES))
    return _channels_last(rows[:, 1:]), rows[:, 0].astype(np.int64)


def _from_pickle(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The python version: a dictionary with the pixels as one array and the labels as a list, written by Python 2."""
    _check_memo(data)
    batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    return _channels_last(batch["data"].array()), np.array(batch["labels"], np.int64)


def _from_records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What tfds writes: a record for each image, with its pixels as a PNG."""
    examples = [records.parse_example(record) for record in records.split_records(data)]
    images = png.decode_pngs([example["image"][0] for example in examples])
    return images, np.array([example["label"][0] for example in examples], np.int64)


def _channels_last(rows: np.ndarray) -> np.ndarray:
    """Makes images of rows in which all red pixels come first, then all green, then all blue."""
    return np.ascontiguousarray(rows.reshape(-1, *_PLANES).transpose(0, 2, 3, 1))


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows numpy arrays and nothing else, and of these makes plain records, calling no numpy.

    A pickle may name any function to be called. This one calls nothing but what is listed here.
    """

    def find_class(self, module: str, name: str) -> Callable:
        known = {
            ("numpy.core.multiarray", "_reconstruct"): _Recorded,
            ("numpy._core.multiarray", "_reconstruct"): _Recorded,  # If numpy 2 has written it anew.
            ("numpy", "ndarray"): _Recorded,
            ("numpy", "dtype"): _Recorded,
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # How Python 3 writes bytes for Python 2.
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which CIFAR-10 has no need of")
        return known[module, name]


class _Recorded:
    """What a pickle says about an array or an element type, not acted upon."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.state = None

    def __setstate__(self, state):
        self.state = state

    def array(self) -> np.ndarray:
        """Makes the array that was pickled, if it is one of bytes."""
        _, shape, dtype, by_columns, content = self.state
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise ValueError(f"the pixels are not bytes but {dtype.arguments[0]}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


def _check_memo(data: bytes) -> None:
    """Refuses a pickle whose memo has gaps: the unpickler makes room up to any number that damage puts there."""
    for seen, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and argument > seen:
            raise pickle.UnpicklingError(f"its memo jumps to {argument}")
