"""Weights files in, named numpy arrays out: one door for the files that Keras, PyTorch, safetensors and numpy write.

Neither TensorFlow nor PyTorch is asked, nothing that a file says is executed, and a file that is damaged or hostile
ends in one kind of exception.
"""

import errno
import io
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from keras_resnet.weights import hdf5, keras_files, torch_files
from keras_resnet.weights.bounds import (
    MAX_INDEX,
    Archive,
    Budget,
    WeightsFileError as WeightsFileError,
    brief,
    checked_dtype,
    checked_shape,
    finished,
    is_natural,
    nbytes_of,
    next_bytes,
)

# The names of the types in a safetensors header.
_SAFETENSORS = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "U16": np.dtype("uint16"),
    "U32": np.dtype("uint32"),
    "U64": np.dtype("uint64"),
    "I8": np.dtype("int8"),
    "I16": np.dtype("int16"),
    "I32": np.dtype("int32"),
    "I64": np.dtype("int64"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads all arrays of a weights file.

    What kind of file it is shows in its content; its name does not matter. The arrays have the names of the file:

    - Keras 3, `.weights.h5` and `.keras`: "layers/conv1_conv/vars/0", the path in the file with the layers' own names
      in place of their groups' keys (`conv2d_7`). Nested models: "layers/stage1/layers/conv1_conv/vars/0".
    - keras.applications and Keras 2, `.h5`: "conv1_conv/kernel", without a final ":0".
    - safetensors, numpy's `.npz`: as they are.
    - PyTorch, `torch.save` in its old and its new format: "layer1.0.conv1.weight". A state dict under "state_dict",
      "model", "model_state", "model_state_dict" or "model_ema" is taken out, the first of them that has tensors.
      "module." and "_orig_mod." are dropped if all names begin with them.

    What files hold besides the weights (optimizer, epoch, metrics) is left out.

    Args:
        path: the file.

    Returns:
        The arrays by name, each with its own memory, in the type in which it was saved; bfloat16 is
        `ml_dtypes.bfloat16`.

    Raises:
        WeightsFileError: if it is not a weights file, is damaged, or asks for what no honest file needs.
        OSError: if it cannot be opened.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "tiny.safetensors")
        >>> write_safetensors(file, {"fc.bias": np.arange(3.0)})
        >>> read(file)
        {'fc.bias': array([0., 1., 2.])}
    """
    path = Path(path)
    _check_file(path)
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        budget = Budget(os.fstat(file.fileno()).st_size)
        kind = next((kind for kind in _KINDS if kind.matches(head)), None)
        try:
            if kind is None:
                raise WeightsFileError(_not_weights(head))
            arrays = kind.read(file, budget)
            if not arrays:
                raise WeightsFileError("holds no arrays; was it saved before the model was built?")
        except WeightsFileError as error:
            error.args = (f"{path}: {error}",)
            raise
        except Exception as error:
            # What damage raises inside zipfile, json, struct and pickletools is anything and differs by version.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise WeightsFileError(f"{path}: is damaged or not {kind.name} ({reason}); download it again") from error
    return arrays


def write_safetensors(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays to a `.safetensors` file, which holds them bit by bit and which every framework reads.

    The file appears complete or not at all: it is written beside its place and then moved there.

    Args:
        path: the file; one that exists is replaced.
        arrays: the arrays by name, of plain numeric types.
        metadata: texts to keep with the arrays, by name. `read` leaves them out.

    Raises:
        ValueError: if there are no arrays, a name or a text is not a string, or a type has no place in the format.
        OSError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "tiny.safetensors")
        >>> write_safetensors(file, {"fc.bias": np.zeros(3, np.float16)}, metadata={"task": "imagenet"})
        >>> read(file)["fc.bias"].dtype
        dtype('float16')
    """
    path = Path(path)
    header, ordered = _safetensors_header(arrays, metadata)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for array in ordered:
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _safetensors_header(arrays: Mapping, metadata: Mapping | None) -> tuple[bytes, list[np.ndarray]]:
    """The header for `arrays`, and the arrays little-endian in the order in which their bytes follow it."""
    codes = {dtype: code for code, dtype in _SAFETENSORS.items()}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    metadata = dict(metadata or {})
    if not arrays or not all(isinstance(text, str) for text in (*arrays, *metadata, *metadata.values())):
        raise ValueError(f"write_safetensors takes arrays by name and texts by name; received {brief(arrays)}")
    header: dict = {"__metadata__": metadata} if metadata else {}
    for name, array in arrays.items():
        if name == "__metadata__" or array.dtype.newbyteorder("=") not in codes:
            raise ValueError(
                f"a safetensors file cannot hold {brief(name)} of type {array.dtype}; convert or rename it"
            )
        header[name] = {"dtype": codes[array.dtype.newbyteorder("=")], "shape": list(array.shape)}
    # The widest types first, so that every array is aligned for readers that map the file.
    order, end = sorted(arrays, key=lambda name: -arrays[name].itemsize), 0
    for name in order:
        header[name]["data_offsets"] = [end, end := end + arrays[name].nbytes]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    ordered = [arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False) for name in order]
    return text + b" " * (-len(text) % 8), ordered


def _read_safetensors(file: BinaryIO, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file: its header's length, a JSON header, the arrays without gap or overlap."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_INDEX, budget.file_size - 8):
        raise WeightsFileError(f"has {budget.file_size} bytes, too few for its header of {length}; download it again")
    header = json.loads(file.read(length), object_pairs_hook=_without_repetition)
    header.pop("__metadata__", None)
    plans = {name: _safetensors_plan(name, entry) for name, entry in header.items()}
    position, arrays = 0, {}
    for name, (dtype, shape, begin, end) in sorted(plans.items(), key=lambda item: item[1][2:]):
        if begin != position or 8 + length + end > budget.file_size:
            raise WeightsFileError(
                f"has {brief(name)} at bytes {begin} to {end} of {budget.file_size - 8 - length}, where {position} was "
                "next; download it again"
            )
        budget.take(end - begin, brief(name))
        data = next_bytes(file, end - begin)
        arrays[name] = finished(data.view(dtype.newbyteorder("<")).reshape(shape))
        position = end
    if 8 + length + position != budget.file_size:
        raise WeightsFileError(f"has bytes after the end of its last array, at {position}; download it again")
    return {name: arrays[name] for name in plans}


def _safetensors_plan(name: str, entry: dict) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Type, shape, begin and end of one array, as its entry in the header has them."""
    code, (begin, end) = entry["dtype"], entry["data_offsets"]
    if code not in _SAFETENSORS:
        raise WeightsFileError(f"has {brief(name)} of type {brief(code)}; save it as one of {', '.join(_SAFETENSORS)}")
    dtype, shape = _SAFETENSORS[code], checked_shape(entry["shape"], brief(name))
    if not is_natural(begin) or not is_natural(end) or end - begin != nbytes_of(shape, dtype):
        raise WeightsFileError(
            f"gives {brief(name)} of type {code} and shape {shape} the bytes {brief(begin)} to {brief(end)}; "
            "download it again"
        )
    return dtype, shape, begin, end


def _without_repetition(pairs: list) -> dict:
    """The dict of a JSON object, unless a name occurs in it twice."""
    if len(dict(pairs)) < len(pairs):
        raise WeightsFileError("has one name twice in its header; save it again")
    return dict(pairs)


def _read_npz(archive: Archive) -> dict[str, np.ndarray]:
    """Arrays of an archive of numpy's: one `.npy` member for each."""
    return {name.removesuffix(".npy"): _npy(archive.read(name), name) for name in archive.names}


def _npy(data: bytes, name: str) -> np.ndarray:
    """The array of a `.npy` file, if it is of a plain type and `data` has exactly its bytes."""
    stream = io.BytesIO(data)
    # Version 3 is for names of fields, which plain types have not.
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, stored = headers[np.lib.format.read_magic(stream)](stream)
    dtype, shape = checked_dtype(stored, brief(name)), checked_shape(shape, brief(name))
    nbytes = nbytes_of(shape, dtype)
    if nbytes != len(data) - stream.tell():
        raise WeightsFileError(
            f"declares {nbytes} bytes for {brief(name)} and has {len(data) - stream.tell()}; download it again"
        )
    flat = np.frombuffer(data, stored, offset=stream.tell()).copy()
    return finished(flat.reshape(shape, order="F" if fortran_order else "C"))


def _read_hdf5(file: BinaryIO, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of an HDF5 file, unless it is one shard of several."""
    path = Path(file.name)
    shard = re.fullmatch(r"(.+)_[0-9]{5}\.weights\.h5", path.name)
    if shard and (index := path.with_name(f"{shard[1]}.weights.json")).exists():
        raise WeightsFileError(f"is one shard of {index.name}; load that in Keras and model.save_weights to one file")
    return keras_files.read_hdf5(file, budget)


def _read_zip(file: BinaryIO, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of a zip file, which may be Keras's, PyTorch's or numpy's: its members tell."""
    archive = Archive(file, budget)
    if "config.json" in archive.names:
        return keras_files.read_keras(archive, budget)
    if pickles := [name for name in archive.names if re.fullmatch("[^/]+/data.pkl", name)]:
        return torch_files.read_zip(archive, pickles[0].removesuffix("data.pkl"), budget)
    if all(name.endswith(".npy") for name in archive.names):
        return _read_npz(archive)
    shown = ", ".join(brief(name) for name in archive.names[:4])
    raise WeightsFileError(
        f"is a zip file of {shown}, not of Keras, PyTorch or numpy; give the weights file, unpacked if it is inside"
    )


class _Kind(NamedTuple):
    """One kind of file: what it is called, whether a file that begins so is one, and its reader."""

    name: str
    matches: Callable[[bytes], bool]
    read: Callable[[BinaryIO, Budget], dict[str, np.ndarray]]


# A safetensors file begins with the length of its header, which may be any bytes: before the pickles, to be sure.
_KINDS = (
    _Kind("an HDF5 file", lambda head: head.startswith(hdf5.SIGNATURE), _read_hdf5),
    _Kind("a zip archive of weights", lambda head: head.startswith(b"PK\x03\x04"), _read_zip),
    _Kind("a safetensors file", lambda head: head[4:9] == b"\0\0\0\0{", _read_safetensors),
    _Kind("a PyTorch checkpoint", lambda head: head.startswith(b"\x80"), torch_files.read_legacy),
)
# What people take for a weights file most often, by its first bytes.
_NOT_WEIGHTS = {
    b"<": "is a web page, probably a login or an error message; download the file itself",
    b"version https://git-lfs": "is a Git LFS pointer, not the file; fetch it with `git lfs pull`",
    b"{": "is JSON; if it is the index of sharded Keras weights, load them in Keras and model.save_weights to one file",
    b"\x93NUMPY": "is a single array of numpy; save named arrays with numpy.savez",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
}


def _not_weights(head: bytes) -> str:
    """What a file of no known kind is, as far as its first bytes tell, and what to do."""
    if not head:
        return "is empty; download it again"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first (if it is of PyTorch before 0.1.10, save it again in PyTorch)"
    for start, text in _NOT_WEIGHTS.items():
        if head.lstrip().startswith(start):
            return text
    return f"begins with {head[:8]!r}, as no file of Keras, PyTorch, safetensors or numpy does; give a weights file"


def _check_file(path: Path) -> None:
    """Refuses what is not there and what is not a file (a pipe would never end)."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no weights file here; check the path or download it", str(path))
    if not stat.S_ISREG(path.stat().st_mode):
        raise WeightsFileError(f"{path}: is a folder or a device, not a weights file; give the file itself")
