"""Files wherever they are: the local disk by the standard library, `gs://` and its like by `tf.io.gfile`.

TensorFlow is imported only for a path with a scheme, so that local data can be read where it is not installed. Hidden
files and folders (`.DS_Store`, `._cat.jpg`) are left out everywhere.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO


def is_remote(path: str) -> bool:
    """Tells whether the path has a scheme, as `gs://bucket/folder` has."""
    return "://" in path


def exists(path: str) -> bool:
    """Tells whether there is a file or a folder at the path."""
    return _gfile().exists(path) if is_remote(path) else pathlib.Path(path).exists()


def is_dir(path: str) -> bool:
    """Tells whether there is a folder at the path."""
    return _gfile().isdir(path) if is_remote(path) else pathlib.Path(path).is_dir()


def is_prepared(folder: str) -> bool:
    """Tells whether tfds has prepared the data in a folder. What tfds offers for it logs a warning if it has not."""
    return exists(join(folder, "dataset_info.json"))


def join(folder: str, name: str) -> str:
    """Returns the path of what is called `name` in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def open_binary(path: str) -> BinaryIO:
    """Opens a file for reading bytes."""
    return _gfile().GFile(path, "rb") if is_remote(path) else pathlib.Path(path).open("rb")


def size(path: str) -> int:
    """Returns the size of a file in bytes."""
    return _gfile().stat(path).length if is_remote(path) else pathlib.Path(path).stat().st_size


def read_bytes(path: str) -> bytes:
    """Returns the whole content of a file."""
    with open_binary(path) as file:
        return file.read()


def listing(folder: str) -> tuple[list[str], list[str]]:
    """Returns the names of the files and the names of the folders in a folder, both sorted."""
    _, folders, files = next(iter(_walk(folder)))
    return sorted(files), sorted(folders)


def walk(folder: str) -> Iterator[str]:
    """Yields the path of every file below a folder, relative to it."""
    for inside, _, files in _walk(folder):
        yield from (inside + name for name in files)


def _walk(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields each folder from `top` down: its path relative to `top`, its folders, its files."""
    steps = _gfile().walk(top) if is_remote(top) else os.walk(top, followlinks=True)
    for folder, folders, files in steps:
        inside = folder[len(top.rstrip("/")) :].strip("/") + "/"
        if "/." not in f"/{inside}":
            yield inside.lstrip("/"), _visible(folders), _visible(files)


def _visible(names: list[str]) -> list[str]:
    return [name.rstrip("/") for name in names if not name.startswith(".")]


def _gfile():
    import tensorflow as tf

    return tf.io.gfile
