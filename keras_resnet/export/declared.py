"""How many pixels an encoded image says it has, read from its header in the graph: asked before anything is decoded.

A file of a few kilobytes can declare gigabytes of pixels.
"""

import tensorflow as tf


def declared_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Width times height, as the header has them.

    Args:
        encoded: a scalar string: a JPEG, PNG, GIF, BMP or WebP image, or anything else.

    Returns:
        A scalar int64; 0 for what is none of these formats. Of a GIF all frames count: TensorFlow decodes them all,
        even to give the first one.

    Raises:
        tf.errors.InvalidArgumentError: if the header is cut off.

    Example:
    >>> int(declared_pixels(tf.io.encode_png(tf.zeros((20, 30, 3), tf.uint8))))
    600
    """
    formats = [
        (b"\xff\xd8\xff", lambda: tf.cast(tf.reduce_prod(tf.image.extract_jpeg_shape(encoded)[:2]), tf.int64)),
        (b"\x89PNG", lambda: _big_endian(encoded, 16, 4) * _big_endian(encoded, 20, 4)),
        (b"GIF8", lambda: _gif(encoded)),
        (b"BM", lambda: tf.abs(_signed(encoded, 18) * _signed(encoded, 22))),  # a height below 0: top row first
        (b"RIFF", lambda: _webp(encoded)),
    ]
    cases = [(tf.strings.substr(encoded, 0, len(magic)) == magic, pixels) for magic, pixels in formats]
    return tf.case(cases, default=lambda: tf.constant(0, tf.int64))


def _bytes(encoded: tf.Tensor, start: int, count: int) -> tf.Tensor:
    part = tf.ensure_shape(tf.io.decode_raw(tf.strings.substr(encoded, start, count), tf.uint8), (count,))
    return tf.cast(part, tf.int64)


def _little_endian(encoded: tf.Tensor, start: int, count: int) -> tf.Tensor:
    return tf.reduce_sum(_bytes(encoded, start, count) * [256**place for place in range(count)])


def _big_endian(encoded: tf.Tensor, start: int, count: int) -> tf.Tensor:
    return tf.reduce_sum(_bytes(encoded, start, count) * [256**place for place in reversed(range(count))])


def _signed(encoded: tf.Tensor, start: int) -> tf.Tensor:
    number = _little_endian(encoded, start, 4)
    return tf.where(number < 2**31, number, number - 2**32)


def _webp(encoded: tf.Tensor) -> tf.Tensor:
    def lossy():
        return (_little_endian(encoded, 26, 2) & 0x3FFF) * (_little_endian(encoded, 28, 2) & 0x3FFF)

    def lossless():
        bits = _little_endian(encoded, 21, 4)
        return ((bits & 0x3FFF) + 1) * ((bits // 2**14 & 0x3FFF) + 1)

    def extended():
        return (_little_endian(encoded, 24, 3) + 1) * (_little_endian(encoded, 27, 3) + 1)

    kind = tf.strings.substr(encoded, 12, 4)
    return tf.case([(kind == b"VP8 ", lossy), (kind == b"VP8L", lossless)], default=extended)


def _gif(encoded: tf.Tensor) -> tf.Tensor:
    """Walks from block to block and adds up the frames."""
    size = tf.strings.length(encoded)
    data = tf.cast(tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 16]]), tf.int32)  # so that no look-ahead fails

    def colors(flags):
        """Bytes of a colour table."""
        return tf.where(flags & 0x80 > 0, 3 * 2 ** ((flags & 7) + 1), 0)

    def area(at):
        return tf.cast(data[at] + 256 * data[at + 1], tf.int64) * tf.cast(data[at + 2] + 256 * data[at + 3], tf.int64)

    def step(at, inside, pixels):
        """One block; `inside` a frame or an extension, these are pieces of up to 255 bytes, the last one empty."""
        frame = ~inside & (data[at] == 0x2C)
        extension = ~inside & (data[at] == 0x21)
        length = tf.where(frame, 11 + colors(data[at + 9]), tf.where(extension, 2, size))
        return (
            at + tf.where(inside, 1 + data[at], length),
            tf.where(inside, data[at] > 0, frame | extension),
            pixels + tf.where(frame, area(at + 5), 0),
        )

    # A frame can be larger than the screen that the header declares, and the other way round.
    start = (13 + colors(data[10]), tf.constant(False), tf.constant(0, tf.int64))
    return tf.maximum(area(6), tf.while_loop(lambda at, *_: at < size, step, start, parallel_iterations=1)[2])
