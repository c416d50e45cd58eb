"""What every reader of weights files holds to: one exception, a bound on memory, a short list of array types.

A weights file comes from the network and is not to be believed. No reader allocates what a file merely declares: each
asks a `Budget` first, and the budget is a small multiple of the bytes that really lie on the disk.
"""

import io
import math
import struct
import zipfile
from typing import BinaryIO

import ml_dtypes
import numpy as np

# How much larger than its file a set of arrays may be. Floats hardly compress and two names seldom share an array, so
# honest files stay below 2; the room is for compressed `.npz` files of sparse or freshly initialised networks.
EXPANSION = 16
# Pickles, JSON headers, model configurations and trees of groups are the index of a file, not its arrays: those of a
# network of 1202 layers have 2 to 5 MB. Parsing one can cost some forty times its length, so this is bounded apart.
MAX_INDEX = 2**24
# numpy 1.x has no more axes.
MAX_RANK = 32

DTYPES = frozenset(
    np.dtype(name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64", ml_dtypes.bfloat16),
    )
)


class WeightsFileError(ValueError):
    """A weights file that cannot be read: its text names the file, what is wrong with it and what to do."""


class Budget:
    """How many bytes one file may still become in memory.

    Args:
        file_size: bytes of the file on the disk.
    """

    def __init__(self, file_size: int):
        self.file_size = file_size
        self.left = EXPANSION * file_size

    def take(self, nbytes: int, what: str) -> None:
        """Grants `nbytes` for `what`, or refuses the file."""
        if nbytes > self.left:
            raise WeightsFileError(
                f"{what} would bring it to more than {EXPANSION} times the file's {self.file_size} bytes, "
                "which no honest weights file does; save the weights again without compression or repetition"
            )
        self.left -= nbytes


class Archive:
    """A zip file read member by member, each whole, checked against its CRC and paid for from the budget.

    Args:
        file: an open binary file.
        budget: what the members may take.
    """

    def __init__(self, file: BinaryIO, budget: Budget):
        if _directory_size(file) > MAX_INDEX:
            raise WeightsFileError("is a zip file of more members than any network has arrays; save it again")
        self._zip = zipfile.ZipFile(file)
        self._budget = budget
        self._members = {info.filename: info for info in self._zip.infolist()}
        if len(self._members) < len(self._zip.infolist()):
            raise WeightsFileError("is a zip file with two members of one name; download or save it again")

    @property
    def names(self) -> list[str]:
        """The members' names, in the order of the archive's directory."""
        return list(self._members)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of one member, at most `limit` of them if there is a limit."""
        info = self._members.get(name)
        if info is None:
            raise WeightsFileError(f"lacks the member {brief(name)}; download or save it again")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # LZMA takes the size of its window, up to 4 GB, from the file.
            raise WeightsFileError(f"has member {brief(name)} in an unusual compression; save it again without one")
        if limit is not None and info.file_size > limit:
            raise WeightsFileError(
                f"has {info.file_size} bytes in {brief(name)}, which is no array: at most {limit} make sense; "
                "save the weights alone"
            )
        self._budget.take(info.file_size, f"member {brief(name)} of {info.file_size} bytes")
        with self._zip.open(info) as member:
            # zipfile never gives more than file_size, whatever the compressed stream would unpack to.
            data = member.read(info.file_size)
        if len(data) != info.file_size:
            raise WeightsFileError(f"has {len(data)} of {info.file_size} bytes in {brief(name)}; download it again")
        return data


def _directory_size(file: BinaryIO) -> int:
    """The bytes of a zip file's directory as its end declares them, before `zipfile` parses it all; 0 if there is none.

    They are declared in the record at the end, which a comment of up to 65535 bytes may follow, and where that has no
    room for them in the larger record right before.
    """
    file.seek(max(0, file.seek(0, io.SEEK_END) - 65535 - 22 - 76))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + 22 > len(tail):
        return 0
    (size,) = struct.unpack_from("<I", tail, end + 12)
    if end >= 76 and tail.startswith(b"PK\6\6", end - 76):
        return max(size % 0xFFFFFFFF, *struct.unpack_from("<Q", tail, end - 76 + 40))
    return size


def brief(value: object) -> str:
    """`value` for an error message: its repr on one line if it is short, safe and plain, else its type and size.

    Containers are not shown: a few bytes of pickle make one whose repr never ends.

    Example:
        >>> brief("conv1"), brief([1, 2])
        ("'conv1'", 'a list of 2')
    """
    if isinstance(value, str | bytes) and len(value) > 80:
        return f"{value[:60]!r}... ({len(value)} long)"
    if isinstance(value, str | bytes | float | bool | None) or (isinstance(value, int) and abs(value) < 2**64):
        return repr(value)
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def checked_dtype(dtype: np.dtype, what: str) -> np.dtype:
    """`dtype` in native byte order if it is one that weights come in, else a refusal."""
    native = dtype.newbyteorder("=")
    if native not in DTYPES:
        raise WeightsFileError(f"has {what} of type {brief(str(dtype))}; save it as one of the plain numeric types")
    return native


def checked_shape(shape: object, what: str) -> tuple[int, ...]:
    """`shape` as a tuple of sizes if it is one, else a refusal."""
    if not isinstance(shape, list | tuple) or len(shape) > MAX_RANK or not all(is_natural(size) for size in shape):
        raise WeightsFileError(f"has {what} with {brief(shape)} where a shape belongs; download or save it again")
    return tuple(shape)


def is_natural(value: object) -> bool:
    """Whether `value` is an int that can be a size or an offset."""
    return type(value) is int and 0 <= value < 2**62


def nbytes_of(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The bytes of an array, as an int that cannot overflow."""
    return math.prod(shape) * dtype.itemsize


def next_bytes(file: BinaryIO, count: int) -> np.ndarray:
    """The next `count` bytes of a file, in memory of their own."""
    data = np.empty(count, np.uint8)
    if file.readinto(data) != count:
        raise WeightsFileError("ended while it was being read; wait until it is complete")
    return data


def finished(array: np.ndarray) -> np.ndarray:
    """`array` in native byte order, its booleans 0 or 1 even where the file's bytes were not."""
    if array.dtype == np.bool_:
        return np.asarray(array.view(np.uint8) != 0)  # a comparison of rank 0 would be a scalar
    native = array.dtype.newbyteorder("=")
    return array.astype(native, copy=False).view(native)  # "<f4" and "=f4" are equal, but show otherwise
