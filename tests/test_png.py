"""PNG pictures decoded with numpy against TensorFlow's decoder, whatever filters they use."""

import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_resnet.data.png import decode_pngs

pytestmark = pytest.mark.lower_house


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows, width, *, header=b"\x08\x02\x00\x00\x00", parts=1):
    """A PNG of stored rows, each a filter and its differences; its data in so many chunks."""
    data = zlib.compress(rows.tobytes())
    cuts = [len(data) * part // parts for part in range(parts + 1)]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">II", width, len(rows)) + header),
            chunk(b"tEXt", b"Comment\0no part of the picture"),
            *(chunk(b"IDAT", data[start:stop]) for start, stop in itertools.pairwise(cuts)),
            chunk(b"IEND", b""),
        ]
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_agrees_with_tensorflow_for_all_filters(height, width, count, seed):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (count, height, 1 + 3 * width), np.uint8)
    rows[..., 0] = rng.integers(0, 5, (count, height))
    pictures = [png(picture, width, parts=int(rng.integers(1, 4))) for picture in rows]
    theirs = [tf.io.decode_png(picture).numpy() for picture in pictures]
    np.testing.assert_array_equal(decode_pngs(pictures), theirs)


def test_more_pictures_than_are_decoded_at_once():
    rows = np.zeros((1, 4), np.uint8)
    pictures = [png(rows + np.array([0, number % 251, 1, 2], np.uint8), 1) for number in range(2500)]
    decoded = decode_pngs(pictures)
    assert decoded.shape == (2500, 1, 1, 3)
    np.testing.assert_array_equal(decoded[:, 0, 0, 0], np.arange(2500) % 251)


def test_other_pictures_are_refused():
    rows = np.zeros((2, 7), np.uint8)
    good = png(rows, 2)
    for picture, complaint in [
        (b"\xff\xd8\xff\xe0 a JPEG", "Only PNG"),
        (b"", "Only PNG"),
        (png(rows, 2, header=b"\x10\x02\x00\x00\x00"), "8-bit RGB"),
        (png(rows, 2, header=b"\x08\x02\x00\x00\x01"), "not interlaced"),
        (png(np.zeros((3, 7), np.uint8), 2), "one size"),
        (png(np.zeros((2, 6), np.uint8), 2), "damaged"),
        (png(np.full((2, 7), 9, np.uint8), 2), "no filter 9"),
        (good[:50], "damaged"),
        (good[:-12], "damaged"),
        (good.replace(zlib.compress(rows.tobytes()), b"x" * len(zlib.compress(rows.tobytes()))), "damaged"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            decode_pngs([good, picture])
