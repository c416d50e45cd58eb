"""From files to what is said of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from transports import RequestError, Row

# Those of keras_resnet.data.folders, which a client need not have.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def find_images(paths: list[str]) -> list[Path]:
    """The files as they are, also those that are not there, and of each folder the images in it and below, in order."""
    found = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"There are no images ({', '.join(SUFFIXES)}) in {str(path)!r}.")
        found += inside
    if not found:
        raise ValueError("Name the images: files or folders.")
    return found


def ask_in_parts(ask: Callable[[list[bytes]], list[Row]], images: list[bytes]) -> list[Row | RequestError]:
    """A row or an error for each image. What is too large for one request goes in two halves, and so on.

    Example:
    >>> ask_in_parts(lambda images: [Row(["cat"], [0.9], True) for _ in images], [b"..."])
    [Row(classes=['cat'], scores=[0.9], valid=True)]
    """
    try:
        return ask(images)
    except RequestError as failure:
        if failure.code != "RESOURCE_EXHAUSTED" or len(images) == 1:
            return [failure] * len(images)
    middle = len(images) // 2
    return ask_in_parts(ask, images[:middle]) + ask_in_parts(ask, images[middle:])


def classify(ask: Callable[[list[bytes]], list[Row]], paths: list[Path], batch_size: int, top: int) -> Iterator[dict]:
    """What is to be said of each file: `{"image", "predictions": [{"name", "score"}]}` or `{"image", "error"}`.

    Args:
        ask: sends encoded images, gives a row for each, or raises `RequestError`.
        paths: the files.
        batch_size: images in one request.
        top: how many classes are named.
    """
    for start in range(0, len(paths), batch_size):
        contents = {path: _read(path) for path in paths[start : start + batch_size]}
        images = [content for content in contents.values() if isinstance(content, bytes)]
        rows = iter(ask_in_parts(ask, images) if images else [])
        for path, content in contents.items():
            yield {"image": str(path)} | _told(next(rows) if isinstance(content, bytes) else content, top)


def _read(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def _told(row: Row | Exception, top: int) -> dict:
    if isinstance(row, Exception):
        return {"error": str(row)}
    if not row.valid:
        return {"error": "the server could not decode it, or refused its size"}
    named = zip(row.classes[:top], row.scores[:top], strict=True)
    return {"predictions": [{"name": name, "score": round(score, 6)} for name, score in named]}
