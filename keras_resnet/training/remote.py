"""Run folders elsewhere, such as gs://bucket/run: a local folder is trained in, and copied after each checkpoint.

Renaming is not atomic there. So a checkpoint is copied whole before the file that points to it, and a run that is
killed while it copies goes on from the checkpoint before.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from keras_resnet.data.files import is_remote
from keras_resnet.training.checkpoints import BEST, LATEST

_CHECKPOINTS = "checkpoints"


def mirrored(run_dir: str | os.PathLike) -> tuple[Path, Callable[[], None]]:
    """A local folder that stands for a run's, and what copies it to where the run's really is.

    Args:
        run_dir: a folder; with a scheme such as gs:// it is elsewhere, and what lies there is fetched.

    Returns:
        The local folder (`run_dir` itself where it is local) and the function to call when something was written.

    Example:
    >>> folder, push = mirrored("runs/demo")
    >>> folder.name
    'demo'
    """
    text, folder = _text(run_dir), local_of(run_dir)
    if not is_remote(text):
        return folder, lambda: None
    pull(text, folder)
    return folder, lambda: push(folder, text)


def local_of(run_dir: str | os.PathLike) -> Path:
    """The local folder that stands for a run's.

    Example:
    >>> local_of("runs/demo")
    PosixPath('runs/demo')
    """
    text = _text(run_dir)
    if not is_remote(text):
        return Path(run_dir)
    return Path.home() / ".cache" / "keras_resnet" / "runs" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(run_dir: str | os.PathLike) -> str:
    return os.fspath(run_dir).rstrip("/")


def pull(remote: str, local: Path) -> None:
    """Replaces the local folder by the remote run: its log, configuration and latest checkpoints; or by nothing."""
    pointed = _pointed(remote)
    shutil.rmtree(local, ignore_errors=True)
    if LATEST not in pointed:
        return
    for name in _files(remote):
        _copy(f"{remote}/{name}", f"{local}/{name}")
    for pointer, folder in pointed.items():
        _copy(f"{remote}/{_CHECKPOINTS}/{pointer}", f"{local}/{_CHECKPOINTS}/{pointer}")
        for name in _files(f"{remote}/{_CHECKPOINTS}/{folder}"):
            _copy(f"{remote}/{_CHECKPOINTS}/{folder}/{name}", f"{local}/{_CHECKPOINTS}/{folder}/{name}")


def push(local: Path, remote: str) -> None:
    """Copies what is new: checkpoints first, then what points to them, and takes away those that are gone here."""
    from tensorflow.io import gfile

    theirs = f"{remote}/{_CHECKPOINTS}"
    ours, pointed = local / _CHECKPOINTS, _pointed(str(local))
    # One that is there and not pointed to may be half of one, from a run that was killed while it copied.
    for name in {*pointed.values()} - {*_pointed(remote).values()}:
        for file in (ours / name).iterdir():
            _copy(str(file), f"{theirs}/{name}/{file.name}")
    for file in [*local.rglob("*")]:
        inside = file.relative_to(local)
        if file.is_file() and inside.parts[0] != _CHECKPOINTS:
            _copy(str(file), f"{remote}/{inside.as_posix()}")
    for pointer in pointed:
        _copy(str(ours / pointer), f"{theirs}/{pointer}")
    for name in [name.rstrip("/") for name in gfile.listdir(theirs)] if pointed else []:
        if name.startswith("step-") and not (ours / name).exists():
            gfile.rmtree(f"{theirs}/{name}")


def _pointed(run: str) -> dict[str, str]:
    """The checkpoints of a run, here or elsewhere, that are known to be whole: by what points to them."""
    from tensorflow.io import gfile

    files = {pointer: f"{run}/{_CHECKPOINTS}/{pointer}" for pointer in (LATEST, BEST)}
    return {pointer: gfile.GFile(file).read().strip() for pointer, file in files.items() if gfile.exists(file)}


def _files(folder: str) -> list[str]:
    from tensorflow.io import gfile

    return [name for name in gfile.listdir(folder) if not gfile.isdir(f"{folder}/{name}")]


def _copy(source: str, target: str) -> None:
    from tensorflow.io import gfile

    gfile.makedirs(target.rpartition("/")[0])
    gfile.copy(source, target, overwrite=True)
