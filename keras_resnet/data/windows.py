"""Decoding only what is seen: a crop of a scaled image, without the rest of the image, exactly.

A `View` says which part of which scaling of an image is wanted. It is made from the image's size alone, before a
pixel is decoded; `render` then decodes the window that the view's samples can reach and resamples it once, at the
true positions. The result is that of decoding, resizing and cropping the whole image: no window is rounded to whole
pixels (that would be 5 grey levels away).
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Where libjpeg-turbo begins to decode within an image, its chroma upsampling lacks a neighbour: one pixel is wrong.
_JPEG_MARGIN = 2
_KERNELS = {"bilinear": ("triangle", 1), "bicubic": ("keyscubic", 2)}  # name in TensorFlow, radius in pixels


class Scaling(NamedTuple):
    """How the visible part is scaled: its new size, and as in `Resize`; `shortest` is the least a side can be."""

    size: tf.Tensor
    interpolation: str
    antialias: bool | None
    shortest: int


class View(NamedTuple):
    """What is to be seen of an image. Places and sizes are int32 tensors (or pairs): rows, columns.

    Resampling looks at what is visible, and beyond its edge it repeats the edge. So cropping and then scaling is not
    the same as scaling and then cropping, for which all of the image is visible.
    """

    extent: tf.Tensor  # size of the visible part
    corner: tf.Tensor | None = None  # of the visible part, in the image; None if all of the image is visible
    scaling: Scaling | None = None
    offset: tf.Tensor | None = None  # of what is cropped from the scaled visible part
    crop_size: tf.Tensor | tuple[int, int] | None = None
    mirror: tf.Tensor | None = None  # a boolean: whether it is mirrored in the end

    @property
    def size(self) -> tf.Tensor | tuple[int, int]:
        """Height and width of what is seen."""
        if self.crop_size is not None:
            return self.crop_size
        return self.extent if self.scaling is None else self.scaling.size

    def crop(self, offset: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> "View":
        """Crops what is seen."""
        if self.scaling is None:
            corner = offset if self.corner is None else self.corner + offset
            return self._replace(corner=corner, extent=tf.convert_to_tensor(size), crop_size=size)
        return self._replace(offset=offset if self.offset is None else self.offset + offset, crop_size=size)

    def resize(self, scaling: Scaling, fixed: tuple[int, int] | None = None) -> "View":
        """Scales what is seen; `fixed` is the new size where it is known before the image is."""
        return self._replace(scaling=scaling, crop_size=fixed)

    def mirrored(self, mirror: tf.Tensor) -> "View":
        """Mirrors what is seen where `mirror` is true."""
        return self._replace(mirror=mirror)


class Samples(NamedTuple):
    """Where a view looks: positions in the visible part, float64, rows and columns, pixels' centres being integers."""

    first: tf.Tensor
    last: tf.Tensor
    step: tf.Tensor  # pixels between two samples
    antialiased: tf.Tensor | bool  # whether the kernel is as wide as the step


def samples(view: View) -> Samples:
    """The samples of a view that is scaled."""
    step = tf.cast(view.extent, tf.float64) / tf.cast(view.scaling.size, tf.float64)
    start = 0.5 if view.offset is None else tf.cast(view.offset, tf.float64) + 0.5
    first = start * step - 0.5
    last = first + (tf.cast(view.size, tf.float64) - 1) * step
    if view.scaling.antialias is False:
        return Samples(first, last, step, antialiased=False)
    # By default where the image shrinks to less than half. Where it grows, there is nothing to smooth.
    return Samples(first, last, step, tf.reduce_max(step) > (2 if view.scaling.antialias is None else 1))


def window(view: View, at: Samples | None, margin: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """The pixels that a view depends on, and `margin` more of those that are visible.

    Returns:
        Top left and bottom right (exclusive), int32, in the visible part.
    """
    if at is None:
        return tf.zeros_like(view.extent), view.extent
    reach = tf.constant(_KERNELS[view.scaling.interpolation][1], tf.float64)
    if at.antialiased is not False:
        reach *= tf.where(at.antialiased, tf.maximum(at.step, 1), 1)
    reach += margin
    # A cast cuts off the fraction: of positive numbers it is the floor.
    begin = tf.cast(tf.maximum(at.first - reach, 0), tf.int32)
    begin = tf.minimum(begin, view.extent - 1)
    return begin, tf.minimum(tf.cast(tf.maximum(at.last + reach, 0), tf.int32) + 2, view.extent)


def render(image: tf.Tensor, lens: Callable[[View], View]) -> tf.Tensor:
    """What a view shows of an image.

    Args:
        image: an image `(height, width, channels)`, or an encoded one (a string).
        lens: from the view of the whole image to the one that is wanted. It may be called twice while a graph is
            traced.

    Returns:
        `(height, width, channels)`: float32 where the view is scaled, otherwise of the image's type (uint8 if encoded,
        with 3 channels).

    Example:
    >>> encoded = tf.io.encode_jpeg(tf.zeros((60, 80, 3), tf.uint8))
    >>> render(encoded, lambda view: view.crop(tf.constant([10, 20]), (30, 40))).shape
    TensorShape([30, 40, 3])
    """
    if image.dtype != tf.string:
        return _from_pixels(image, lens)
    other = _seldom(lambda: _from_pixels(decode(image), lens))
    return tf.cond(tf.io.is_jpeg(image), lambda: _from_jpeg(image, lens), other)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF (its first frame), BMP or WebP image of any number of channels.

    Args:
        encoded: a string. A BMP with a palette is refused: TensorFlow would take the palette's numbers for grey.

    Returns:
        uint8 RGB of shape `(height, width, 3)`; alpha is dropped. EXIF's orientation is not looked at.

    Example:
    >>> decode(tf.io.encode_png(tf.zeros((2, 3, 1), tf.uint8))).shape
    TensorShape([2, 3, 3])
    """

    def webp():  # TensorFlow refuses to drop alpha here
        return tf.io.decode_image(encoded, expand_animations=False)[..., :3]

    def bmp():
        depth = tf.io.decode_raw(tf.strings.substr(encoded, 28, 2), tf.uint16)[0]
        refusal = "A BMP with a palette, which TensorFlow would decode as grey: save it as PNG or with 24 bits a pixel."
        with tf.control_dependencies([tf.debugging.Assert(depth >= 24, [refusal, "Received: bits a pixel:", depth])]):
            return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    def other():
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: tf.io.decode_jpeg(encoded, channels=3)),
            (tf.strings.substr(encoded, 0, 4) == b"RIFF", webp),
            (tf.strings.substr(encoded, 0, 2) == b"BM", bmp),
        ],
        default=other,
    )
    return tf.ensure_shape(image, (None, None, 3))


def _from_pixels(image: tf.Tensor, lens: Callable[[View], View]) -> tf.Tensor:
    view = lens(View(tf.shape(image)[:2]))
    at = None if view.scaling is None else samples(view)
    begin, end = window(view, at)
    corner = begin if view.corner is None else view.corner + begin
    return _show(view, at, _slice(image, corner, end - begin), begin, end)


def _from_jpeg(encoded: tf.Tensor, lens: Callable[[View], View]) -> tf.Tensor:
    # Grey and CMYK images need no other way: `channels=3` converts them, in a window as in the whole.
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    view = lens(View(size))
    at = None if view.scaling is None else samples(view)
    if view.corner is None:
        # The margin is visible, but no sample reaches it.
        begin, end = window(view, at, _JPEG_MARGIN)
        pixels = tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin, end - begin], axis=0), channels=3)
    else:
        begin, end = window(view, at)
        top_left = tf.maximum(view.corner + begin - _JPEG_MARGIN, 0)
        bottom_right = tf.minimum(view.corner + end + _JPEG_MARGIN, size)
        crop = tf.concat([top_left, bottom_right - top_left], axis=0)
        pixels = tf.io.decode_and_crop_jpeg(encoded, crop, channels=3)
        pixels = _slice(pixels, view.corner + begin - top_left, end - begin)
    return _show(view, at, pixels, begin, end)


def _slice(image: tf.Tensor, corner: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    pixels = tf.slice(image, tf.concat([corner, [0]], axis=0), tf.concat([size, [-1]], axis=0))
    return tf.ensure_shape(pixels, (None, None, image.shape[-1]))


def _show(view: View, at: Samples | None, pixels: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Renders the view from the pixels `begin` to `end` of the visible part."""
    if at is None:
        image = _mirror(pixels, view.mirror)
    else:
        image = _resample(view, at, pixels, begin, end)
    height, width = view.size if isinstance(view.size, tuple) else (None, None)
    return tf.ensure_shape(image, (height, width, pixels.shape[-1]))


def _mirror(image: tf.Tensor, mirror: tf.Tensor | None) -> tf.Tensor:
    if mirror is None:
        return image
    return tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)


def _resample(view: View, at: Samples, pixels: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Interpolates at the view's samples.

    `CropAndResize` is the fastest that takes true positions, and it mirrors at no cost. But it knows no antialiasing,
    no bicubic kernel, and does not repeat the image's edge: it is for samples between pixels' centres, which most are,
    as only the outermost samples of an image that grows are not. For the others there is `_interpolate`.
    """
    if view.scaling.interpolation != "bilinear" or view.scaling.antialias:
        return _interpolate(view, at, pixels, begin, end)
    start, size = tf.cast(begin, tf.float64), tf.convert_to_tensor(view.size)

    def between_pixels():
        box = tf.stack([at.first - start, at.last - start]) / tf.cast(end - begin - 1, tf.float64)
        box = tf.reshape(tf.cast(box, tf.float32), (1, 4))
        if view.mirror is not None:
            box = tf.gather(box, tf.where(view.mirror, [0, 3, 2, 1], [0, 1, 2, 3]), axis=1)
        return tf.raw_ops.CropAndResize(
            image=tf.cast(pixels, tf.float32)[tf.newaxis], boxes=box, box_ind=[0], crop_size=size
        )[0]

    # A sample on the very edge might be rounded to beyond it, and would be black. One sample is placed otherwise.
    to_edges = tf.stack([at.first, tf.cast(view.extent - 1, tf.float64) - at.last, tf.cast(size - 1, tf.float64)])
    inside = tf.reduce_all(to_edges > 1e-3) & tf.logical_not(at.antialiased)
    return tf.cond(inside, between_pixels, _seldom(lambda: _interpolate(view, at, pixels, begin, end)))


def _interpolate(view: View, at: Samples, pixels: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Interpolates anywhere with any kernel: over the rows, then, transposed, over the columns.

    `ScaleAndTranslate` does both at once too, with the same result. But its inner loop over columns is one over three
    channels; when a row is all channels it takes 0.4 of the time, and 0.3 with antialiasing.
    """
    channels, size = pixels.shape[-1], tf.convert_to_tensor(view.size)
    (height, width), (window_height, window_width) = tf.unstack(size), tf.unstack(end - begin)
    scales = tf.cast(1 / at.step, tf.float32)
    translations = tf.cast(0.5 - (at.first - tf.cast(begin, tf.float64) + 0.5) / at.step, tf.float32)
    (scale_y, scale_x), (translation_y, translation_x) = tf.unstack(scales), tf.unstack(translations)

    def along(rows, count, scale, translation, antialias):
        return tf.raw_ops.ScaleAndTranslate(
            images=rows[tf.newaxis, :, tf.newaxis],
            size=[count, 1],
            scale=[scale, 1],
            translation=[translation, 0],
            kernel_type=_KERNELS[view.scaling.interpolation][0],
            antialias=antialias,
        )

    def run(antialias):
        rows = tf.reshape(pixels, (window_height, window_width * channels))
        image = along(rows, height, scale_y, translation_y, antialias)
        columns = tf.transpose(tf.reshape(image, (height, window_width, channels)), (1, 0, 2))
        rows = tf.reshape(columns, (window_width, height * channels))
        image = along(rows, width, scale_x, translation_x, antialias)
        return tf.reshape(image, (width, height, channels))

    # Where the image grows, antialiasing does nothing.
    smooth = view.scaling.antialias
    image = run(smooth) if smooth is not None else tf.cond(at.antialiased, lambda: run(True), lambda: run(False))
    if view.mirror is not None:
        image = tf.cond(view.mirror, lambda: tf.reverse(image, [0]), lambda: image)
    return tf.transpose(image, (1, 0, 2))


def _seldom(branch: Callable[[], tf.Tensor]) -> Callable[[], tf.Tensor]:
    """A branch of a condition as one node: TensorFlow goes through all nodes of the branches that it does not take."""
    if tf.executing_eagerly():
        return branch
    return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
