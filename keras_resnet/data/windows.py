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

    corner: tf.Tensor  # of the visible part, in the image
    extent: tf.Tensor  # size of the visible part
    scaling: Scaling | None = None
    offset: tf.Tensor | tuple[int, int] = (0, 0)  # of what is cropped from the scaled visible part
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
            return self._replace(corner=self.corner + offset, extent=tf.convert_to_tensor(size), crop_size=size)
        return self._replace(offset=self.offset + offset, crop_size=size)

    def resize(self, scaling: Scaling, fixed: tuple[int, int] | None = None) -> "View":
        """Scales what is seen; `fixed` is the new size where it is known before the image is."""
        return self._replace(scaling=scaling, crop_size=fixed)

    def mirrored(self, mirror: tf.Tensor) -> "View":
        """Mirrors what is seen where `mirror` is true."""
        return self._replace(mirror=mirror)

    @property
    def step(self) -> tf.Tensor:
        """How many pixels of the image lie between two samples: float64, rows and columns."""
        return tf.cast(self.extent, tf.float64) / tf.cast(self.scaling.size, tf.float64)

    def antialiased(self) -> bool | tf.Tensor:
        """Whether the kernel is widened: by default where the image shrinks to less than half."""
        shrinks = tf.reduce_max(self.step)
        return {None: shrinks > 2, True: shrinks > 1, False: False}[self.scaling.antialias]

    def samples(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions of the first and the last sample in the visible part: float64, rows and columns."""
        first = (tf.cast(self.offset, tf.float64) + 0.5) * self.step - 0.5
        return first, first + tf.cast(self.size - tf.constant(1), tf.float64) * self.step

    def window(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Top left and bottom right (exclusive) of the pixels that the view depends on, in the image."""
        if self.scaling is None:
            return self.corner, self.corner + self.extent
        reach = tf.cast(_KERNELS[self.scaling.interpolation][1], tf.float64)
        if self.scaling.antialias is not False:
            reach *= tf.where(self.antialiased(), tf.maximum(self.step, 1.0), 1.0)
        first, last = self.samples()
        top_left = tf.clip_by_value(tf.cast(tf.floor(first - reach), tf.int32), 0, self.extent - 1)
        bottom_right = tf.clip_by_value(tf.cast(tf.math.ceil(last + reach), tf.int32) + 1, 1, self.extent)
        return self.corner + top_left, self.corner + bottom_right


def whole(size: tf.Tensor) -> View:
    """The view of a whole image of this size."""
    return View(corner=tf.zeros((2,), tf.int32), extent=size)


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
    return tf.cond(tf.io.is_jpeg(image), lambda: _from_jpeg(image, lens), lambda: _from_pixels(decode(image), lens))


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


def _from_pixels(image: tf.Tensor, lens) -> tf.Tensor:
    view = lens(whole(tf.shape(image)[:2]))
    begin, end = view.window()
    return _sample(view, _slice(image, begin, end), begin)


def _from_jpeg(encoded: tf.Tensor, lens) -> tf.Tensor:
    # Grey and CMYK images need no other way: `channels=3` converts them, in a window as in the whole.
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    view = lens(whole(size))
    begin, end = view.window()
    top_left = tf.maximum(begin - _JPEG_MARGIN, 0)
    bottom_right = tf.minimum(end + _JPEG_MARGIN, size)
    window = tf.concat([top_left, bottom_right - top_left], axis=0)
    pixels = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    return _sample(view, _slice(pixels, begin - top_left, end - top_left), begin)


def _slice(image: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    return image[begin[0] : end[0], begin[1] : end[1]]


def _sample(view: View, pixels: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """Renders the view from the window of pixels that begins at `begin` in the image."""
    if view.scaling is None:
        image = pixels if view.mirror is None else _mirror(pixels, view.mirror)
    else:
        image = _resample(view, pixels, begin)
    if isinstance(view.size, tuple):
        image = tf.ensure_shape(image, (*view.size, None))
    return tf.ensure_shape(image, (None, None, pixels.shape[-1]))


def _mirror(image: tf.Tensor, mirror: tf.Tensor) -> tf.Tensor:
    return tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)


def _resample(view: View, pixels: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """Interpolates at the view's samples.

    Without antialiasing `crop_and_resize` gives the same numbers in 0.6 of `ScaleAndTranslate`'s time, and mirrors at
    no cost. But it does not repeat the image's edge, so it is used where all samples lie between pixels' centres:
    nearly everywhere, as only the outermost samples of an image that grows do not.
    """
    first, last = (position - tf.cast(begin - view.corner, tf.float64) for position in view.samples())
    size = tf.convert_to_tensor(view.size)

    def between_pixels():
        edge = tf.cast(tf.shape(pixels)[:2] - 1, tf.float64)
        (top, left), (bottom, right) = (tf.unstack(position / edge) for position in (first, last))
        if view.mirror is not None:
            left, right = tf.where(view.mirror, right, left), tf.where(view.mirror, left, right)
        box = tf.cast(tf.stack([top, left, bottom, right]), tf.float32)
        return tf.raw_ops.CropAndResize(image=pixels[tf.newaxis], boxes=box[tf.newaxis], box_ind=[0], crop_size=size)[0]

    def anywhere(antialias):
        image = tf.raw_ops.ScaleAndTranslate(
            images=pixels[tf.newaxis],
            size=size,
            scale=tf.cast(1.0 / view.step, tf.float32),
            translation=tf.cast(0.5 - (first + 0.5) / view.step, tf.float32),
            kernel_type=_KERNELS[view.scaling.interpolation][0],
            antialias=antialias,
        )[0]
        return image if view.mirror is None else _mirror(image, view.mirror)

    antialiased = view.antialiased()
    inside = False
    if view.scaling.interpolation == "bilinear":
        edge = tf.cast(tf.shape(pixels)[:2] - 1, tf.float64)
        # A sample on the very edge might be rounded to beyond it, and would be black. One sample is placed otherwise.
        inside = tf.reduce_all((first > 1e-3) & (last < edge - 1e-3)) & tf.reduce_all(size > 1)
    way = tf.where(antialiased, 2, tf.where(inside, 0, 1))
    return tf.switch_case(way, [between_pixels, lambda: anywhere(False), lambda: anywhere(True)])
