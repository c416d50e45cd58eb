"""TFRecord files and `tf.train.Example` messages without TensorFlow: enough to count records and to read examples.

A TFRecord file is a row of records, each with its length (8 bytes, little-endian), a checksum of the length (4), the
payload, and a checksum of the payload (4). The checksums are not looked at; a file that does not end where its last
record does is refused.
"""

import os
from collections.abc import Iterator

from keras_resnet.data import files

_HEADER, _FOOTER = 12, 4
_DAMAGED = "This is not a TFRecord file, or it is compressed or cut short."


def count_records(path: str) -> int:
    """Counts the records of a TFRecord file by walking from length to length, without reading the payloads.

    Args:
        path: the file's path, local or with a scheme.

    Returns:
        The number of records.

    Example:
    >>> count_records("cifar10-test.tfrecord-00000-of-00001")  # doctest: +SKIP
    10000
    """
    count = position = 0
    with files.open_binary(path) as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        while position < size:
            file.seek(position)
            position += _HEADER + int.from_bytes(file.read(8), "little") + _FOOTER
            count += 1
    if position != size:
        raise ValueError(f"{_DAMAGED} Received: {path}.")
    return count


def split_records(data: bytes) -> Iterator[bytes]:
    """Yields the payload of each record in the content of a TFRecord file.

    Args:
        data: the content of the file, as `bytes`.

    Yields:
        Each payload, as `bytes`.

    Example:
    >>> from keras_resnet.data import files
    >>> payloads = split_records(files.read_bytes("cifar10-test.tfrecord-00000-of-00001"))  # doctest: +SKIP
    """
    position = 0
    while position < len(data):
        start = position + _HEADER
        stop = start + int.from_bytes(data[position : position + 8], "little")
        position = stop + _FOOTER
        if position > len(data):
            raise ValueError(_DAMAGED)
        yield data[start:stop]


def parse_example(payload: bytes) -> dict[str, list[bytes] | list[int]]:
    """Returns the features of a serialised `tf.train.Example`.

    Args:
        payload: the serialised message, as `bytes`.

    Returns:
        A dictionary from feature names to lists, of `bytes` or of `int`. Floats are left out.

    Example:
    >>> import tensorflow as tf
    >>> label = tf.train.Feature(int64_list=tf.train.Int64List(value=[7]))
    >>> example = tf.train.Example(features=tf.train.Features(feature={"label": label}))
    >>> parse_example(example.SerializeToString())
    {'label': [7]}
    """
    features = {}
    try:
        # Example.features is field 1; its map entries too; in an entry the key is field 1 and the value field 2.
        for _, entries in _fields(payload):
            for _, entry in _fields(entries):
                feature = dict(_fields(entry))
                features[feature[1].decode()] = _values(feature.get(2, b""))
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("This record is damaged, or is not a tf.train.Example.") from error
    return features


def _values(feature: bytes) -> list[bytes] | list[int]:
    """The values of a `tf.train.Feature`: field 1 is a list of bytes, 2 of floats, 3 of integers."""
    values = []
    for kind, listed in _fields(feature):
        for _, value in _fields(listed):
            if kind == 1 or (kind == 3 and isinstance(value, int)):
                values.append(value)
            elif kind == 3:
                values.extend(_packed(value))
    return [_signed(value) if isinstance(value, int) else value for value in values]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of each field of a protocol buffer message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            value, position = _varint(message, position)
        else:
            length, position = _varint(message, position) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], position)
            value = message[position : position + length]
            position += length
            if position > len(message):
                raise IndexError("a field reaches beyond its message")
        yield tag >> 3, value


def _packed(data: bytes) -> Iterator[int]:
    """Yields the integers of a packed list."""
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number written seven bits a byte, the lowest first; returns it and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _signed(value: int) -> int:
    """Protocol buffers write a negative int64 as its two's complement."""
    return value - (1 << 64) if value >> 63 else value
