"""The parts of a stack that choose what is seen of an image: scale, crop, mirror."""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from keras_resnet.data import draws
from keras_resnet.data.parts import Geometric, Part, Random, pair
from keras_resnet.data.windows import Scaling, View


@dataclasses.dataclass(frozen=True)
class Resize(Geometric):
    """Resizes.

    Args:
        size: the length of the shorter side, the longer one following in proportion, rounded down as torchvision has
            it (`int(short * long / short_before)`); or height and width.
        interpolation: `"bilinear"` or `"bicubic"`.
        antialias: whether pixels are averaged where the image shrinks. None: where it shrinks to less than half.

    Example:
    >>> Resize(256)(tf.zeros((375, 500, 3)), key=None).shape
    TensorShape([256, 341, 3])
    """

    size: int | tuple[int, int]
    interpolation: str = "bilinear"
    antialias: bool | None = None
    resamples: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True

    def __post_init__(self):
        pair(self.size)
        _check_interpolation(self)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        if isinstance(self.size, int):
            return _resize_shorter(view, tf.constant(self.size), self.size, self)
        return _resize_to(view, self.size, self)


@dataclasses.dataclass(frozen=True)
class ScaleJitter(Geometric, Random):
    """Resizes so that the shorter side is uniform over the integers `low` to `high` (the paper, section 3.4).

    Args:
        low: least length of the shorter side.
        high: greatest length of the shorter side, which is drawn too.
        interpolation: as in `Resize`; `antialias` too.
        antialias: see `interpolation`.

    Example:
    >>> image = ScaleJitter(256, 480)(tf.zeros((375, 500, 3)), draws.example_keys(seed=1, epoch=0, index=0))
    >>> 256 <= image.shape[0] <= 480
    True
    """

    low: int = 256
    high: int = 480
    interpolation: str = "bilinear"
    antialias: bool | None = None
    resamples: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(f"0 < low <= high must hold. Received: low={self.low}, high={self.high}.")
        _check_interpolation(self)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        shorter = self.low + draws.integers(self.own(key), [self.high - self.low + 1])[0]
        return _resize_shorter(view, shorter, self.low, self)


@dataclasses.dataclass(frozen=True)
class InceptionCrop(Geometric, Random):
    """Crops a part of random area and aspect ratio and resizes it (Szegedy et al. 2014, "GoogLeNet").

    Area is uniform, the logarithm of width / height is uniform, the place is uniform over the integers. Of ten draws
    the first that fits is taken; if none does, the largest centred part with an allowed ratio.

    Args:
        size: what the part is resized to.
        area: least and greatest share of the image.
        ratio: least and greatest width / height.
        interpolation: as in `Resize`; `antialias` too.
        antialias: see `interpolation`.

    Example:
    >>> InceptionCrop(224)(tf.zeros((375, 500, 3)), draws.example_keys(seed=1, epoch=0, index=0)).shape
    TensorShape([224, 224, 3])
    """

    size: int | tuple[int, int] = 224
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    antialias: bool | None = None
    resamples: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True

    def __post_init__(self):
        pair(self.size)
        check_box(self)
        _check_interpolation(self)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        fits, box = random_box(self.own(key), view.size, self.area, self.ratio)
        height, width = tf.unstack(tf.cast(view.size, tf.float32))
        widest = tf.minimum(width, tf.round(height * self.ratio[1]))
        highest = tf.minimum(height, tf.round(width / self.ratio[0]))
        largest = tf.cast(tf.stack([highest, widest]), tf.int32)
        offset = tf.where(fits, box[:2], (view.size - largest) // 2)
        return _resize_to(view.crop(offset, tf.where(fits, box[2:], largest)), pair(self.size), self)


@dataclasses.dataclass(frozen=True)
class RandomCrop(Geometric, Random):
    """Crops at a place that is uniform over the integers.

    Args:
        size: of the crop: an integer, or height and width. Images must not be smaller.

    Example:
    >>> RandomCrop(32)(tf.zeros((128, 40, 40, 3)), draws.example_keys(seed=1, epoch=0, index=tf.range(128))).shape
    TensorShape([128, 32, 32, 3])
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        pair(self.size)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        size = pair(self.size)
        room = _room(view, size)
        return view.crop(draws.integers(self.own(key), room + 1), size)

    def on_batch(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One gather of pixels for all images."""
        (height, width), shape = pair(self.size), tf.shape(images)
        offset = draws.integers(self.own(key), _room(images, (height, width)) + 1)
        rows = (offset[:, :1] + tf.range(height)) * shape[2]
        columns = offset[:, 1:] + tf.range(width)
        pixels = tf.reshape(images, (shape[0], shape[1] * shape[2], shape[3]))
        index = tf.reshape(rows[:, :, tf.newaxis] + columns[:, tf.newaxis], (shape[0], height * width))
        crops = tf.reshape(tf.gather(pixels, index, batch_dims=1), (shape[0], height, width, shape[3]))
        return tf.ensure_shape(crops, (images.shape[0], height, width, images.shape[3]))


@dataclasses.dataclass(frozen=True)
class CenterCrop(Geometric):
    """Crops the centre; where it lies between two pixels, the even one begins the crop, as in torchvision.

    Args:
        size: of the crop: an integer, or height and width. Images must not be smaller.

    Example:
    >>> CenterCrop(224)(tf.zeros((8, 256, 256, 3)), key=None).shape
    TensorShape([8, 224, 224, 3])
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        pair(self.size)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        return view.crop(_half(_room(view, pair(self.size))), pair(self.size))

    def on_batch(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """The same crop of all images."""
        height, width = pair(self.size)
        top, left = tf.unstack(_half(_room(images, (height, width))))
        crops = images[:, top : top + height, left : left + width]
        return tf.ensure_shape(crops, (images.shape[0], height, width, images.shape[3]))


@dataclasses.dataclass(frozen=True)
class RandomFlip(Geometric, Random):
    """Mirrors left and right.

    Args:
        rate: probability of the mirror image.

    Example:
    >>> RandomFlip()(tf.zeros((8, 32, 32, 3)), draws.example_keys(seed=1, epoch=0, index=tf.range(8))).shape
    TensorShape([8, 32, 32, 3])
    """

    rate: float = 0.5
    mirrors: ClassVar[bool] = True

    def __post_init__(self):
        check_rate(self)

    def view(self, view: View, key: tf.Tensor) -> View:
        """See `Geometric.view`."""
        return view.mirrored(draws.uniform(self.own(key), 1)[0] < self.rate)

    def on_batch(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One gather of columns, which takes half as long as mirroring all images and choosing."""
        columns = tf.range(tf.shape(images)[2])
        columns = tf.where(draws.uniform(self.own(key), 1) < self.rate, columns[::-1], columns)
        return tf.ensure_shape(tf.gather(images, columns, axis=2, batch_dims=1), images.shape)


@dataclasses.dataclass(frozen=True)
class Pad(Part):
    """Pads an image, or a batch, on all four sides.

    The paper (section 4.2) does not say with what. After the mean is subtracted, zero is the mean; before, as in
    `augmentation.cifar`, where images are still bytes and four times as fast to move, it is black.

    Args:
        pixels: on each side.
        value: of the padding, for all channels.

    Example:
    >>> Pad(4)(tf.zeros((32, 32, 3)), key=None).shape
    TensorShape([40, 40, 3])
    """

    pixels: int = 4
    value: float = 0

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images of any type to larger ones of the same type."""
        paddings = [(0, 0)] * (images.shape.rank - 3) + [(self.pixels, self.pixels)] * 2 + [(0, 0)]
        return tf.pad(images, paddings, constant_values=tf.cast(self.value, images.dtype))


@dataclasses.dataclass(frozen=True)
class TenCrops(Part):
    """The four corners and the centre, then their mirror images: the paper's testing, after AlexNet's.

    Args:
        size: of the crops: an integer, or height and width. Images must not be smaller.

    Example:
    >>> TenCrops(224)(tf.zeros((256, 341, 3)), key=None).shape
    TensorShape([10, 224, 224, 3])
    """

    size: int | tuple[int, int] = 224
    one_by_one: ClassVar[bool] = True  # it takes batches too; but of photographs that were scaled there are none yet

    def __post_init__(self):
        pair(self.size)

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """`(..., height, width, channels)` to `(..., 10, height, width, channels)`."""
        height, width = pair(self.size)
        room = _room(images, (height, width))
        (bottom, right), (top, left) = tf.unstack(room), tf.unstack(_half(room))
        corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (top, left))
        crops = tf.stack([images[..., y : y + height, x : x + width, :] for y, x in corners], axis=-4)
        crops = tf.concat([crops, tf.reverse(crops, axis=[-2])], axis=-4)
        return tf.ensure_shape(crops, (*images.shape[:-3], 10, height, width, images.shape[-1]))


def random_box(key: tf.Tensor, size: tf.Tensor, area: tuple[float, float], ratio: tuple[float, float]):
    """The first of ten random boxes that fits into an image.

    Args:
        key: one key, or a batch of them.
        size: int32, height and width of the image.
        area: least and greatest share of the image's area; uniform.
        ratio: least and greatest width / height; its logarithm is uniform.

    Returns:
        Whether one fits (of the key's shape), and int32 `(*key.shape, 4)`: top, left, height, width.

    Example:
    >>> fits, box = random_box(draws.example_keys(1, 0, 0), tf.constant([375, 500]), (0.08, 1.0), (0.75, 1.33))
    >>> box.shape
    TensorShape([4])
    """
    numbers = draws.uniform(key, 20)
    areas = (area[0] + (area[1] - area[0]) * numbers[..., :10]) * tf.cast(tf.reduce_prod(size), tf.float32)
    low, high = (math.log(limit) for limit in ratio)
    ratios = tf.exp(low + (high - low) * numbers[..., 10:])
    sides = tf.cast(tf.round(tf.sqrt(tf.stack([areas / ratios, areas * ratios], axis=-1))), tf.int32)
    fitting = tf.reduce_all((sides > 0) & (sides <= size), axis=-1)
    sides = tf.gather(sides, tf.argmax(fitting, axis=-1), batch_dims=len(key.shape))
    offset = draws.integers(draws.fold(key, 20), tf.maximum(size - sides, 0) + 1)
    return tf.reduce_any(fitting, axis=-1), tf.concat([offset, sides], axis=-1)


def check_box(part: Part) -> None:
    """Complains of a part whose `area` or `ratio` leaves `random_box` nothing to draw."""
    for name, most in (("area", 1.0), ("ratio", math.inf)):
        low, high = getattr(part, name)
        if not 0 < low <= high <= most:
            limit = "" if most == math.inf else f" <= {most:g}"
            raise ValueError(f"`{name}` must be (low, high) with 0 < low <= high{limit}. Received: {(low, high)}.")


def check_rate(part: Part) -> None:
    """Complains of a part whose `rate` is no probability."""
    if not 0 <= part.rate <= 1:
        raise ValueError(f"`rate` is a probability, from 0 to 1. Received: rate={part.rate!r}.")


def _check_interpolation(part: Part) -> None:
    if part.interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"`interpolation` must be 'bilinear' or 'bicubic'. Received: {part.interpolation!r}.")


def _resize_shorter(view: View, shorter: tf.Tensor, least: int, part: Resize | ScaleJitter) -> View:
    # In integers, so that no quotient is rounded up before it is rounded down. JPEG ends at 65,535 pixels: 32 bits do.
    new = shorter * view.size // tf.reduce_min(view.size)
    return view.resize(Scaling(new, part.interpolation, part.antialias, least))


def _resize_to(view: View, size: tuple[int, int], part: Resize | InceptionCrop) -> View:
    return view.resize(Scaling(tf.constant(size), part.interpolation, part.antialias, min(size)), fixed=size)


def _room(seen: View | tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """How many rows and columns a crop leaves out of a view or of images; an error where it does not fit."""
    if isinstance(seen, View):
        available, least = seen.size, seen.scaling.shortest if seen.scaling else None
    else:
        available = tf.shape(seen)[-3:-1]
        least = None if None in seen.shape[-3:-1] else min(seen.shape[-3:-1])
    if least is not None and least < min(size):
        raise ValueError(f"A crop of {size} does not fit into images whose shorter side is {least} pixels: scale less.")
    room = available - tf.constant(size)
    if least is not None and least >= max(size):
        return room
    complaint = ["A crop does not fit into its image. Received: crop", size, "image", available]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(room >= 0), complaint)]):
        return tf.identity(room)


def _half(room: tf.Tensor) -> tf.Tensor:
    """Half of it, an odd number's rounded to even."""
    half = room // 2
    return half + room % 2 * (half % 2)
