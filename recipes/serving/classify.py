"""From files to what is said of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from transports import RequestError, Row

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}


def find_images(paths: list[str]) -> list[Path]:
    """The files as they are, and of each folder the images in it and below, in order."""
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"There is no such file or folder: {str(path)!r}.")
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"There are no images ({' '.join(sorted(SUFFIXES))}) in {str(path)!r}.")
        found += inside
    if not found:
        raise ValueError("Name the images: files or folders.")
    return found


def ask_in_parts(ask: Callable[[list[bytes]], list[Row]], images: list[bytes]) -> list[Row | RequestError]:
    """A row or an error for each image. What is too large for one request goes in two halves, and so on."""
    try:
        return ask(images)
    except RequestError as failure:
        if failure.code != "RESOURCE_EXHAUSTED" or len(images) == 1:
            return [failure] * len(images)
    middle = len(images) // 2
    return ask_in_parts(ask, images[:middle]) + ask_in_parts(ask, images[middle:])


def classify(ask: Callable[[list[bytes]], list[Row]], paths: list[Path], batch_size: int, top: int) -> Iterator[dict]:
    """What is to be said of each file: `{"file", "classes": [{"name", "score"}]}` or `{"file", "error"}`."""
    for start in range(0, len(paths), batch_size):
        contents = {path: _read(path) for path in paths[start : start + batch_size]}
        images = [content for content in contents.values() if isinstance(content, bytes)]
        rows = iter(ask_in_parts(ask, images) if images else [])
        for path, content in contents.items():
            yield {"file": str(path)} | _told(next(rows) if isinstance(content, bytes) else content, top)


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
    return {"classes": [{"name": name, "score": score} for name, score in named]}
