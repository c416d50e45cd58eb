"""Fetches a published file into Keras's cache, once, and makes sure that it is the published one.

The weights that this project has trained are in the package already; they are checked in the same way.
"""

import hashlib
import os
import socket
from pathlib import Path

import keras

from keras_resnet.weights.catalog import Published, Trained

_PACKAGE = Path(__file__).parent.parent
_FOLDER = "models/keras_resnet"
_SECONDS = 20.0  # without a word from the server


def download(row: Published, cache_dir: str | os.PathLike | None = None) -> Path:
    """The path of a published file; downloads it where it is neither in the package nor in the cache.

    Args:
        row: what to fetch.
        cache_dir: the cache; `~/.keras` (or `$KERAS_HOME`) if None.

    Returns:
        The path of the file, whose hash is the published one.

    Raises:
        OSError: where the file cannot be had; it says where it could be put by hand.
        ValueError: where the file is not the published one; it is deleted from the cache.
    """
    if isinstance(row, Trained):
        path = _PACKAGE / row.url
        _verify(row, path, "The package is damaged: install it anew. The file's")
        return path
    cache = Path(cache_dir or os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    path = cache.joinpath(_FOLDER, f"{row.network}-{row.tag}-{row.url.rpartition('/')[2]}")
    if not path.is_file():
        _fetch(row, cache, path)
    try:
        _verify(row, path, "The file is not the published one, and was deleted: its")
    except ValueError:
        path.unlink()
        raise
    return path


def _fetch(row: Published, cache: Path, path: Path) -> None:
    """Under another name first: what stands under its own name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)  # else Keras puts it into /tmp
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)  # Keras waits for ever
    try:
        keras.utils.get_file(partial.name, row.url, cache_dir=str(cache), cache_subdir=_FOLDER)
        partial.replace(path)
    except Exception as error:  # Keras raises bare ones
        partial.unlink(missing_ok=True)
        reason = str(error).rpartition(" -- ")[2] or type(error).__name__
        raise OSError(
            f"The weights {row.tag!r} of {row.network} could not be downloaded from {row.url} ({reason}). "
            f"Try again, or put the file there by hand: {path}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _verify(row: Published, path: Path, what: str) -> None:
    if row.hash is None:
        return
    algorithm, _, digits = row.hash.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise ValueError(f"{what} {algorithm} should begin with {digits}. Received: {found} from {row.url}, as {path}.")
