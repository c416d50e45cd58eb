"""HDF5 as h5py writes it for Keras, read in Python.

The HDF5 library trusts its files: of 5000 copies of a small weights file with one to three random bytes changed, 4 sent
the library (1.14.6 and 2.0.0 alike) into an endless loop and 2 crashed the process, and no exception handler helps
against that. Keras uses little of the format (groups, plain arrays, short attributes, always
in the oldest layout), and that little is read here. Everything else is refused by name: links that lead elsewhere,
chunks and with them every compression, types that no weights come in.

The words are those of the HDF5 File Format Specification, version 3: https://support.hdfgroup.org/documentation/
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import ml_dtypes
import numpy as np

from keras_resnet.weights.bounds import (
    MAX_INDEX,
    Budget,
    WeightsFileError,
    brief,
    checked_dtype,
    checked_shape,
    finished,
    nbytes_of,
    next_bytes,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Nested models take two groups a level, and no sane network nests thirty deep.
MAX_DEPTH = 64
_MAX_NAME = 1024
_ADVICE = "; open it with h5py or Keras if you trust it and save the weights again"

# The kinds of messages in an object's header that matter here.
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 1, 3, 7, 8, 12, 16, 17
_KEPT = frozenset({_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _SYMBOL_TABLE})
# The classes of datatypes.
_INTEGER, _FLOAT, _STRING, _OPAQUE, _ENUM, _VARIABLE = 0, 1, 3, 5, 8, 9
# Floats by the place of their sign, bit offset, precision, exponent's place and size, mantissa's place and size, bias.
_FLOATS = {
    (15, 0, 16, 10, 5, 0, 10, 15): np.dtype("float16"),
    (15, 0, 16, 7, 8, 0, 7, 127): np.dtype(ml_dtypes.bfloat16),
    (31, 0, 32, 23, 8, 0, 23, 127): np.dtype("float32"),
    (63, 0, 64, 52, 11, 0, 52, 1023): np.dtype("float64"),
}


@dataclass(frozen=True)
class Attribute:
    """An attribute as it is stored: its datatype, its dataspace and its bytes."""

    datatype: bytes
    dataspace: bytes
    data: bytes


class Object:
    """A group or an array: the messages of its header, each with its position in the file."""

    def __init__(self, messages: list[tuple[int, int, bytes]]):
        self._messages = messages
        self.attributes = dict(_attribute(body) for kind, _, body in messages if kind == _ATTRIBUTE)

    def message(self, kind: int) -> tuple[int, bytes]:
        """Position and content of the first message of a kind."""
        for found, position, body in self._messages:
            if found == kind:
                return position, body
        raise WeightsFileError(f"has an object without message {kind} in its header{_ADVICE}")

    def has(self, kind: int) -> bool:
        """Whether the header has a message of a kind."""
        return any(found == kind for found, _, _ in self._messages)


class File:
    """An open HDF5 file.

    Args:
        file: a binary file; it stays open and is read as things are asked for.
        budget: what the arrays may take.
    """

    def __init__(self, file: BinaryIO, budget: Budget):
        self._file = file
        self._budget = budget
        self._size = file.seek(0, io.SEEK_END)
        # Honest structure is read once, byte by byte. More can only be a loop.
        self._unread = min(self._size, MAX_INDEX)
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        head = self._read(0, 96)
        versions, sizes = head[8:13], head[13:15]
        base, end, root = *struct.unpack_from("<Q8xQ", head, 24), *struct.unpack_from("<Q", head, 64)
        if not head.startswith(SIGNATURE) or versions != b"\0\0\0\0\0" or sizes != b"\x08\x08" or base != 0:
            raise WeightsFileError(f"is HDF5 in another layout than the one that Keras writes{_ADVICE}")
        if end > self._size:
            raise WeightsFileError(f"has {self._size} of its {end} bytes; download it again")
        self._root = root

    def survey(self, skip: frozenset[str] = frozenset()) -> tuple[dict, dict]:
        """All groups and all arrays by their paths, which are tuples of keys; the root is `()`.

        Args:
            skip: keys in the root not to look into.
        """
        groups, arrays = {(): self._object(self._root)}, {}
        pending = [()]
        for path in pending:  # which grows as groups are found
            for key, address in self._children(groups[path]):
                child_path = (*path, key)
                if len(child_path) > MAX_DEPTH:
                    raise WeightsFileError(f"nests its groups more than {MAX_DEPTH} deep{_ADVICE}")
                if child_path[0] in skip:
                    continue
                child = self._object(address)
                if child.has(_LAYOUT):
                    arrays[child_path] = child
                else:
                    groups[child_path] = child
                    pending.append(child_path)
        return groups, arrays

    def array(self, stored: Object, name: str) -> np.ndarray:
        """The values of an array that `survey` found; `name` is for error messages."""
        what = f"array {brief(name)}"
        dtype = _dtype(stored.message(_DATATYPE)[1], what)
        native, shape = checked_dtype(dtype, what), checked_shape(_shape(stored.message(_DATASPACE)[1]), what)
        position, layout = stored.message(_LAYOUT)
        if layout[0] != 3 or layout[1] not in (0, 1) or stored.has(_EXTERNAL):
            raise WeightsFileError(f"stores {what} in chunks, compressed or outside the file{_ADVICE}")
        if layout[1] == 0:
            address, declared = position + 4, int.from_bytes(layout[2:4], "little")
        else:
            address, declared = struct.unpack_from("<QQ", layout, 2)
        nbytes = nbytes_of(shape, native)
        if nbytes != declared or (nbytes and address + nbytes > self._size):
            raise WeightsFileError(f"does not hold the {nbytes} bytes of {what}; download it again")
        self._budget.take(nbytes, what)
        self._file.seek(address if nbytes else 0)  # arrays without elements have no address
        return finished(next_bytes(self._file, nbytes).view(dtype).reshape(shape))

    def text(self, attribute: Attribute) -> str | None:
        """The value of an attribute that is one string, else None."""
        kind, bits = _class_of(attribute.datatype)
        if _shape(attribute.dataspace) != ():
            return None
        if kind == _STRING:
            return attribute.data.split(b"\0")[0].decode()
        if kind == _VARIABLE and bits & 15 == 1:
            length, collection, index = struct.unpack_from("<IQI", attribute.data)
            address, size = self._heap(collection)[index]
            return self._read(address, min(length, size)).decode()
        return None

    def _read(self, address: int, count: int) -> bytes:
        """Bytes of the file's structure."""
        if address + count > self._size:
            raise WeightsFileError(f"ends at byte {self._size}, before what should be at {address}; download it again")
        self._unread -= count
        if self._unread < 0:
            raise WeightsFileError(
                "has groups, arrays or attributes that contain or repeat one another, or too many; download it again"
            )
        self._file.seek(address)
        return self._file.read(count)

    def _object(self, address: int) -> Object:
        """The object whose header is at an address."""
        version, size = struct.unpack("<B7xI", self._read(address, 12))
        if version != 1:
            raise WeightsFileError(f"has no header of an object at byte {address}, or a newer one{_ADVICE}")
        messages, blocks = [], [(address + 16, size)]
        for position, length in blocks:  # which grows as continuations are found
            end = position + length
            while position + 8 <= end:
                kind, size, flags = struct.unpack("<HHB3x", self._read(position, 8))
                body = self._read(position + 8, size)
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", body))
                elif kind in _KEPT and flags & 2:
                    raise WeightsFileError(f"shares a message between objects, as Keras does not{_ADVICE}")
                elif kind in _KEPT:
                    messages.append((kind, position + 8, body))
                position += 8 + size
        return Object(messages)

    def _children(self, group: Object) -> Iterator[tuple[str, int]]:
        """Keys and addresses of what is in a group."""
        if not group.has(_SYMBOL_TABLE):
            # The library takes it for keys beyond ASCII, and then for the whole group.
            raise WeightsFileError(f"has a group in a newer layout than Keras writes for plain layer names{_ADVICE}")
        tree, heap = struct.unpack_from("<QQ", group.message(_SYMBOL_TABLE)[1])
        signature, size, segment = struct.unpack("<4s4xQ8xQ", self._read(heap, 32))
        if signature != b"HEAP":
            raise WeightsFileError(f"has no names for a group at byte {heap}; download it again")
        names = self._read(segment, size)
        for offset, address, kind in self._symbols(tree):
            end = names.find(b"\0", offset, offset + _MAX_NAME)
            if end <= offset or kind > 1:
                raise WeightsFileError(f"has a link that leads elsewhere, or one without a name{_ADVICE}")
            yield names[offset:end].decode(), address

    def _symbols(self, tree: int) -> Iterator[tuple[int, int, int]]:
        """The entries in the leaves of a B-tree: offset of the name, address of the object, kind of link."""
        nodes = [tree]
        for node in nodes:  # which grows as nodes are found
            signature, count = struct.unpack("<4s2xH", self._read(node, 8))
            if signature == b"TREE":
                nodes.extend(child for _, child in struct.iter_unpack("<QQ", self._read(node + 24, 16 * count)))
            elif signature == b"SNOD":
                yield from struct.iter_unpack("<QQI20x", self._read(node + 8, 40 * count))
            else:
                raise WeightsFileError(f"has no index of a group at byte {node}; download it again")

    def _heap(self, collection: int) -> dict[int, tuple[int, int]]:
        """Addresses and sizes of the long values in one collection of the global heap."""
        if collection not in self._heaps:
            signature, size = struct.unpack("<4s4xQ", self._read(collection, 16))
            if signature != b"GCOL":
                raise WeightsFileError(f"has no heap at byte {collection}; download it again")
            found, position = {}, collection + 16
            while position + 16 <= collection + size:
                index, length = struct.unpack("<H6xQ", self._read(position, 16))
                if index == 0:  # the free space, which comes last
                    break
                found[index] = (position + 16, length)
                position += 16 + length + -length % 8
            self._heaps[collection] = found
        return self._heaps[collection]


def _attribute(body: bytes) -> tuple[str, Attribute]:
    """Name and content of an attribute's message."""
    version = body[0]
    position = 9 if version == 3 else 8
    parts = []
    for size in struct.unpack_from("<HHH", body, 2):
        parts.append(body[position : position + size])
        position += size + (-size % 8 if version == 1 else 0)
    name, datatype, dataspace = parts
    return name.split(b"\0")[0].decode(), Attribute(datatype, dataspace, body[position:])


def _class_of(datatype: bytes) -> tuple[int, int]:
    """Class and flags of a datatype."""
    return datatype[0] & 15, int.from_bytes(datatype[1:4], "little")


def _dtype(datatype: bytes, what: str) -> np.dtype:
    """The numpy type of a datatype."""
    kind, bits = _class_of(datatype)
    size = int.from_bytes(datatype[4:8], "little")
    order = ">" if bits & 1 else "<"
    if kind == _INTEGER and size in (1, 2, 4, 8) and struct.unpack_from("<HH", datatype, 8) == (0, 8 * size):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind == _FLOAT:
        layout = (bits >> 8 & 255, *struct.unpack_from("<HHBBBBI", datatype, 8))
        if layout in _FLOATS and size == _FLOATS[layout].itemsize and not bits & 64:
            return _FLOATS[layout].newbyteorder(order)
    if kind == _OPAQUE and size == 2:
        return np.dtype(ml_dtypes.bfloat16)  # the only type that Keras leaves to h5py as bare bytes
    if kind == _ENUM and size == 1 and b"FALSE\0" in datatype and b"TRUE\0" in datatype:
        return np.dtype(bool)
    raise WeightsFileError(f"has {what} of a type (class {kind}, {size} bytes) that is no plain number{_ADVICE}")


def _shape(dataspace: bytes) -> tuple[int, ...] | None:
    """The sizes in a dataspace, or None if it is the one of no value at all."""
    version, rank = dataspace[:2]
    if version == 2 and dataspace[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", dataspace, 8 if version == 1 else 4)
