"""PyTorch's checkpoints, read without PyTorch and without running anything that they say.

Only the tensors of the state dict are made into arrays, once the whole pickle is understood; the storages of the
optimizer's are not even read.
"""

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from keras_resnet.weights.bounds import MAX_INDEX, Archive, Budget, WeightsFileError, brief, finished, nbytes_of
from keras_resnet.weights.pickles import ADVICE, Machine, Storage, Tensor

# What the first two pickles of a file of the old format say.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Where training scripts keep the state dict, the most wanted first: the trained weights before their moving average.
WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "model_ema")
# What DataParallel, DistributedDataParallel and torch.compile put in front of every name.
_PREFIXES = ("module.", "_orig_mod.")


def read_zip(archive: Archive, folder: str, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of a file of `torch.save` since PyTorch 1.6: a zip archive with a folder of a pickle and its storages."""
    if f"{folder}constants.pkl" in archive.names:
        raise WeightsFileError(f"is a TorchScript program, not a state dict{ADVICE}")
    if f"{folder}byteorder" in archive.names and archive.read(f"{folder}byteorder", limit=16) != b"little":
        raise WeightsFileError(f"was written on a big-endian machine{ADVICE} on a little-endian one")
    pickle = io.BytesIO(archive.read(f"{folder}data.pkl", limit=MAX_INDEX))
    tensors = state_dict(Machine().run(pickle))
    return _arrays(tensors, lambda storage: archive.read(f"{folder}data/{storage.key}"), budget)


def read_legacy(file: BinaryIO, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of a file of `torch.save` before PyTorch 1.6: five pickles, then the storages one after another."""
    pickles = io.BytesIO(file.read(MAX_INDEX))
    if Machine().run(pickles) != _MAGIC or Machine().run(pickles) != _PROTOCOL:
        raise WeightsFileError(f"is a pickle, but not one of torch.save{ADVICE}")
    system = Machine().run(pickles)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsFileError(f"was written on a big-endian machine{ADVICE} on a little-endian one")
    machine = Machine()
    tensors = state_dict(machine.run(pickles))
    keys = Machine().run(pickles)
    if not isinstance(keys, list) or {key for key in keys if isinstance(key, str)} != machine.storages.keys():
        raise WeightsFileError("lists other storages than its tensors have; download it again")

    positions = {}
    position = pickles.tell()
    for key in keys:
        file.seek(position)
        storage = machine.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise WeightsFileError(f"has another size for storage {brief(key)} than its tensors; download it again")
        positions[key] = position + 8
        position += 8 + storage.size * storage.dtype.itemsize
    if position > budget.file_size:
        raise WeightsFileError(f"has {budget.file_size} of its {position} bytes; download it again")

    def fetch(storage: Storage) -> bytes:
        nbytes = storage.size * storage.dtype.itemsize
        budget.take(nbytes, f"storage {brief(storage.key)} of {nbytes} bytes")
        file.seek(positions[storage.key])
        return file.read(nbytes)

    return _arrays(tensors, fetch, budget)


def state_dict(content: object) -> dict[str, Tensor]:
    """The tensors of the state dict that a checkpoint is or holds, without prefixes.

    A checkpoint that holds one under a name of `WRAPPERS` is unwrapped, the first of these names winning. What in a
    state dict is not a tensor is left out.
    """
    if not isinstance(content, dict):
        raise WeightsFileError(f"holds {brief(content)}, not a dict of tensors{ADVICE}")
    candidates = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
    for candidate in (*candidates, content):
        tensors = {name: value for name, value in candidate.items() if isinstance(value, Tensor)}
        if tensors:
            return _without_prefixes(tensors)
    keys = ", ".join(brief(key) for key in list(content)[:6]) or "nothing"
    raise WeightsFileError(f"has no tensors at its top nor under {', '.join(WRAPPERS)}, but {keys}{ADVICE}")


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` without the prefixes that all of their names share.

    `n_averaged`, which AveragedModel adds beside the module that it wraps, has none and does not count.
    """
    for prefix in _PREFIXES * 2:
        stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        everywhere = all(name.startswith(prefix) for name in tensors if name != "n_averaged")
        if everywhere and len(stripped) == len(tensors):
            tensors = stripped
    return tensors


def _arrays(tensors: dict[str, Tensor], fetch: Callable[[Storage], bytes], budget: Budget) -> dict[str, np.ndarray]:
    """Own arrays for `tensors`, each storage fetched once."""
    storages, arrays = {}, {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            data = fetch(storage)
            if len(data) != storage.size * storage.dtype.itemsize:
                raise WeightsFileError(f"has {len(data)} bytes for tensor {brief(name)}, too few; download it again")
            storages[storage.key] = np.frombuffer(data, storage.dtype.newbyteorder("<"))
        nbytes = nbytes_of(tensor.shape, storage.dtype)
        budget.take(nbytes, f"tensor {brief(name)} of {nbytes} bytes")
        arrays[name] = finished(_view(storages[storage.key], tensor).copy())
    return arrays


def _view(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The window of a tensor on the elements of its storage; `_tensor` has made sure that it lies inside."""
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, elements.dtype)
    strides = [stride * elements.dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides, writeable=False)
