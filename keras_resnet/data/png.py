"""PNG pictures of one size, many at a time, with numpy and zlib alone.

A PNG stores each byte as the difference to what its neighbours predict. Undoing that is a walk from pixel to pixel,
which Python is slow at; here each step of the walk is taken in many pictures at once.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB8 = b"\x08\x02\x00\x00\x00"  # Bit depth 8, colour type RGB, and the only compression, filter and interlace kept to.
_AT_ONCE = 2048


def decode_pngs(pictures: Sequence[bytes]) -> np.ndarray:
    """Decodes PNG pictures that all have one size, in RGB of 8 bits.

    Args:
        pictures: a list of `bytes`, one PNG file each.

    Returns:
        A `uint8` array of shape `(len(pictures), height, width, 3)`.

    Example:
    >>> import tensorflow as tf
    >>> red = tf.io.encode_png(np.uint8([[[255, 0, 0]]])).numpy()
    >>> decode_pngs([red, red]).tolist()
    [[[[255, 0, 0]]], [[[255, 0, 0]]]]
    """
    height, width = _size(pictures[0])
    decoded = np.empty((len(pictures), height, width, 3), np.uint8)
    for start in range(0, len(pictures), _AT_ONCE):
        stored = [_stored_rows(picture, height, width) for picture in pictures[start : start + _AT_ONCE]]
        rows = np.stack(stored, axis=-1)  # The pictures last: what one step works on lies together in memory.
        differences = rows[:, 1:].reshape(height, width, 3, len(stored))
        decoded[start : start + _AT_ONCE] = np.moveaxis(_unfilter(rows[:, 0], differences), -1, 0)
    return decoded


def _size(picture: bytes) -> tuple[int, int]:
    """The height and width of a picture, which is checked to be of the kind that is decoded here."""
    if picture[:8] != _SIGNATURE or picture[12:16] != b"IHDR" or picture[24:29] != _RGB8:
        raise ValueError(f"Only PNG pictures in 8-bit RGB, not interlaced, can be decoded. Received: {picture[:29]!r}.")
    width, height = struct.unpack(">II", picture[16:24])
    return height, width


def _stored_rows(picture: bytes, height: int, width: int) -> np.ndarray:
    """The rows of a picture as they are stored: a byte that says how the row was filtered, then its differences."""
    if _size(picture) != (height, width):
        raise ValueError(f"All pictures must have one size. Received: {(height, width)} and {_size(picture)}.")
    try:
        return np.frombuffer(zlib.decompress(_image_data(picture)), np.uint8).reshape(height, 1 + 3 * width)
    except (struct.error, zlib.error, ValueError) as error:
        raise ValueError(f"This PNG picture is damaged: {error}") from error


def _image_data(picture: bytes) -> bytes:
    """The compressed rows: the content of all chunks of that kind."""
    content, position, kind = [], len(_SIGNATURE), None
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", picture, position)
        if kind == b"IDAT":
            content.append(picture[position + 8 : position + 8 + length])
        position += length + 12
    return b"".join(content)


def _unfilter(filters: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Adds to each difference the byte that its row's filter predicts from the pixels to the left and above.

    Args:
        filters: numbers from 0 to 4, of shape `(height, pictures)`.
        differences: bytes of shape `(height, width, 3, pictures)`.

    Returns:
        The pixels, as `differences` in shape.
    """
    if filters.max() > 4:
        raise ValueError(f"This PNG picture is damaged: there is no filter {filters.max()}")
    height, width, *channels = differences.shape
    # A row of zeros above and a column of zeros to the left, as the format has it.
    pixels = np.zeros((height + 1, width + 1, *channels), np.int16)
    for y in range(height):
        by_left, by_above, by_mean, by_nearest = (filters[y] == np.arange(1, 5)[:, np.newaxis]).astype(np.int16)
        for x in range(width):
            left, above, corner = pixels[y + 1, x], pixels[y, x + 1], pixels[y, x]
            predicted = by_left * left + by_above * above + by_mean * ((left + above) // 2)
            predicted += by_nearest * _nearest(left, above, corner)
            pixels[y + 1, x + 1] = (differences[y, x] + predicted) & 255
    return pixels[1:, 1:].astype(np.uint8)


def _nearest(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Paeth's predictor: the one nearest to left + above - corner, the earlier where two are as near."""
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    nearest_of_rest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest_of_rest)
