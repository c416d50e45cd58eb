"""Checkpoints that a run goes on from to the bit, and that no kill, crash or full disk leaves half written.

A checkpoint is one folder with the network's weights (a file that `weights=` of every constructor takes), every other
number of the run (seed generators, optimiser, loss scale, metrics) and the callbacks' states. It is written beside its
place, forced to the disk, and renamed; after that the file `latest` is replaced, by which a run finds it.

Keras's BackupAndRestore leaves out the seed generators, starts the epoch again, and writes in two steps.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet import weights

LATEST, BEST = "latest", "best"
_NETWORK, _NUMBERS, _STATE = "network.safetensors", "variables.npz", "state.json"


def save(
    root: Path,
    step: int,
    network: keras.Model,
    variables: Mapping[str, Sequence[Any]],
    state: Mapping[str, Any],
    best: bool = False,
    keep: int = 2,
) -> Path:
    """Writes a checkpoint, points to it, and then deletes those that are no longer needed.

    Args:
        root: the folder of the checkpoints.
        step: how many steps the run has made.
        network: what is trained.
        variables: arrays or Keras variables besides the network's weights, in named groups.
        state: what JSON can hold.
        best: whether this is the best checkpoint so far, which is kept.
        keep: how many of the latest are kept.

    Returns:
        The checkpoint's folder.

    Example:
    >>> folder = save(Path("checkpoints"), 100, keras_resnet.ResNet20(), {}, {"epoch": 2})
    >>> folder.name, find(Path("checkpoints")) == folder
    ('step-000000100', True)
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"step-{step:09}"
    if folder == find(root):
        return folder
    part = root / f"{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        weights.save(network, part / _NETWORK)
        arrays = {f"{group}/{i:05}": _array(v) for group, found in variables.items() for i, v in enumerate(found)}
        np.savez(part / _NUMBERS, **arrays)
        (part / _STATE).write_text(json.dumps({"step": step, **state}, indent=1))
        for file in part.iterdir():
            _sync(file)
        _sync(part)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _not_written(error, f"The checkpoint of step {step}", "the one before it is whole") from error
    if folder.exists():  # left by a run that was killed before it pointed there
        shutil.rmtree(folder)
    part.replace(folder)
    _sync(root)
    for pointer in (BEST, LATEST) if best else (LATEST,):  # the state that `latest` leads to knows the best
        replace_text(root / pointer, folder.name + "\n")
    _delete_others(root, keep)
    return folder


def find(root: Path, pointer: str = LATEST) -> Path | None:
    """The checkpoint that `pointer` (`LATEST` or `BEST`) names; None where there is none."""
    file = root / pointer
    folder = root / file.read_text().strip() if file.is_file() else None
    return folder if folder and folder.is_dir() else None


def read_state(folder: Path) -> dict[str, Any]:
    """The state that `save` was given, with the step under `"step"`.

    Example:
    >>> read_state(save(Path("read"), 100, keras_resnet.ResNet20(), {}, {"best": 0.5}))
    {'step': 100, 'best': 0.5}
    """
    return json.loads((folder / _STATE).read_text())


def restore(folder: Path, network: keras.Model, variables: Mapping[str, Sequence[Any]]) -> None:
    """Brings back what `save` wrote: the same network and the same groups of variables.

    Args:
        folder: a checkpoint.
        network: gets the weights.
        variables: get their values.

    Example:
    >>> folder = save(Path("restored"), 100, keras_resnet.ResNet20(), {}, {})
    >>> restore(folder, keras_resnet.ResNet20(), {})
    """
    weights.load_weights(network, folder / _NETWORK)
    with np.load(folder / _NUMBERS) as arrays:
        expected = {f"{group}/{i:05}": v for group, found in variables.items() for i, v in enumerate(found)}
        if set(arrays.files) != set(expected):
            differing = sorted(set(arrays.files) ^ set(expected))
            raise ValueError(f"The checkpoint {folder} is of another run: {', '.join(differing[:5])} differ.")
        for name, variable in expected.items():
            variable.assign(arrays[name])


def network_weights(folder: Path) -> Path:
    """The file of a checkpoint that `weights=` takes."""
    return folder / _NETWORK


def replace_text(file: Path, text: str) -> None:
    """Writes a small file at once: whoever reads it, and whatever ends this, finds all of the old text or of the new.

    Example:
    >>> replace_text(Path("note.txt"), "whole")
    >>> Path("note.txt").read_text()
    'whole'
    """
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text)
        _sync(part)
    except OSError as error:
        raise _not_written(error, file, "what was there is whole") from error
    part.replace(file)
    _sync(file.parent)


def _not_written(error: OSError, what: str | Path, rest: str) -> OSError:
    return OSError(error.errno, f"{what} could not be written; {rest}: {error}")


def _array(variable: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array  # exact, and NumPy's files know it


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_others(root: Path, keep: int) -> None:
    folders = sorted(root.glob("step-*[0-9]"))
    pointed = {find(root, LATEST), find(root, BEST)}
    for folder in [*folders[:-keep], *root.glob("step-*.part")]:
        if folder not in pointed:
            shutil.rmtree(folder, ignore_errors=True)
