"""The parts of a stack that change colours: PCA colour, means, jitter, erasing, RandAugment."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_resnet.data import draws
from keras_resnet.data.geometry import check_box, check_rate, random_box
from keras_resnet.data.parts import Affine, Affinity, Part, Random, refuse_batch
from keras_resnet.preprocessing import NAMED, Preprocessing, named

IMAGENET_MEAN = NAMED["torch"].mean
# Of the 50,000 training images.
CIFAR10_MEAN = (125.307, 122.950, 113.865)

# Of the RGB values of ImageNet's pixels, between 0 and 1: as published with AlexNet's descendants (cuda-convnet's and
# Torch's training code); what is called eigenvalue there is what a standard normal number is multiplied with.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_GREY = np.float32([0.299, 0.587, 0.114])


@dataclasses.dataclass(frozen=True)
class ColorAugmentation(Affine, Random):
    """AlexNet's colour augmentation: along the principal components of ImageNet's colours, one draw an image.

    Args:
        sigma: standard deviation of the draws; the paper's is 0.1. Values may leave 0 to 255.

    Example:
    >>> ColorAugmentation(0.1)(tf.zeros((8, 4, 4, 3)), draws.example_keys(seed=1, epoch=0, index=tf.range(8))).shape
    TensorShape([8, 4, 4, 3])
    """

    sigma: float = 0.1

    def affinity(self, key: tf.Tensor) -> Affinity:
        """See `Affine.affinity`."""
        components = np.float32(255 * self.sigma * _EIGENVALUES[:, np.newaxis] * _EIGENVECTORS.T)
        return Affinity(color=tf.linalg.matvec(components, draws.normal(self.own(key), 3), transpose_a=True))


@dataclasses.dataclass(frozen=True, eq=False)
class Normalize(Affine):
    """Subtracts a mean and divides by a standard deviation.

    Args:
        mean: a number for each channel, or an image of the size that the images have here ("per-pixel mean").
        std: a number, or one for each channel.

    Example:
    >>> Normalize(mean=(1.0, 2.0, 3.0), std=2.0)(tf.ones((1, 1, 3)), key=None).numpy()[0, 0]
    array([ 0. , -0.5, -1. ], dtype=float32)
    """

    mean: Any = IMAGENET_MEAN
    std: Any = 1.0

    def __post_init__(self):
        mean, std = np.shape(self.mean), np.shape(self.std)
        if len(mean) not in (1, 3) or std not in ((), mean[-1:]) or not np.all(np.asarray(self.std) > 0):
            raise ValueError(
                "`mean` must be a number for each channel, or an image; `std` a positive number, or one for each "
                f"channel. Received: a mean of shape {mean}, std={self.std}."
            )

    def __eq__(self, other: Any) -> bool:
        return type(other) is Normalize and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple:
        return tuple((np.shape(values), np.float64(values).tobytes()) for values in (self.mean, self.std))

    def affinity(self, key: tf.Tensor) -> Affinity:
        """See `Affine.affinity`."""
        std = np.asarray(self.std)
        shift = np.float32(-np.asarray(self.mean, np.float64) / std)
        scale = 1.0 if np.all(std == 1) else np.float32(np.broadcast_to(1 / std, shift.shape[-1:]))
        return Affinity(scale, color=shift) if shift.ndim == 1 else Affinity(scale, mean=shift)


def SubtractMean(mean: Any = IMAGENET_MEAN) -> Normalize:
    """The paper's normalisation: a mean image (`mean_image` computes it) or a mean colour, and no scaling."""
    return Normalize(mean)


@dataclasses.dataclass(frozen=True)
class ReverseChannels(Part):
    """RGB to BGR."""

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images of any type to the same type."""
        return tf.reverse(images, axis=[-1])


@dataclasses.dataclass(frozen=True)
class ToUint8(Part):
    """Rounds to bytes: a quarter of the memory to batch and to copy to a device. What leaves 0 to 255 is clipped."""

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images of any type to uint8."""
        if images.dtype == tf.uint8:
            return images
        return tf.cast(tf.clip_by_value(images + 0.5, 0.0, 255.0), tf.uint8)


@dataclasses.dataclass(frozen=True)
class ColorJitter(Random):
    """Brightness, contrast, saturation and hue, in an order drawn for each image; clipped to 0 to 255 after each.

    Args:
        brightness: the factor is uniform in [1 - brightness, 1 + brightness].
        contrast: the same for the distance to the image's mean grey.
        saturation: the same for the distance to each pixel's grey.
        hue: the turn of the colour circle is uniform in [-hue, hue]; half a turn is 0.5.

    Example:
    >>> ColorJitter(hue=0.1)(tf.zeros((4, 4, 3)), draws.example_keys(seed=1, epoch=0, index=0)).shape
    TensorShape([4, 4, 3])
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    one_by_one: ClassVar[bool] = True

    def __post_init__(self):
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"`{name}` must lie between 0 and {most}. Received: {name}={getattr(self, name)!r}.")

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One image of any type to float32."""
        if images.shape.rank != 3:
            refuse_batch(self, images)
        key = self.own(key)
        chosen = [field.name for field in dataclasses.fields(self) if getattr(self, field.name)]
        spread = np.float32([getattr(self, name) for name in chosen])
        strengths = spread * (2 * draws.uniform(draws.fold(key, 0), len(chosen)) - 1)
        order = tf.argsort(draws.uniform(draws.fold(key, 1), len(chosen)))
        images = tf.cast(images, tf.float32)
        for number in tf.unstack(order):
            ways = [functools.partial(_JITTERS[name], images, strengths[i]) for i, name in enumerate(chosen)]
            images = tf.clip_by_value(tf.switch_case(number, ways), 0.0, 255.0)
        return images


def _grey(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(images * _GREY, axis=-1, keepdims=True)


def _away_from(middle: tf.Tensor, images: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return middle + (1 + strength) * (images - middle)


_JITTERS = {
    "brightness": lambda images, strength: images * (1 + strength),
    "contrast": lambda images, strength: _away_from(tf.reduce_mean(_grey(images)), images, strength),
    "saturation": lambda images, strength: _away_from(_grey(images), images, strength),
    "hue": lambda images, strength: 255 * tf.image.adjust_hue(images / 255, strength),
}


@dataclasses.dataclass(frozen=True)
class RandomErasing(Random):
    """Covers a random box with one colour (Zhong et al. 2017).

    Args:
        rate: probability that an image is touched at all.
        area: least and greatest share of the image.
        ratio: least and greatest width / height of the box.
        value: what the box is filled with: a number, or one for each channel, in the units that images have here.

    Example:
    >>> RandomErasing()(tf.zeros((8, 32, 32, 3)), draws.example_keys(seed=1, epoch=0, index=tf.range(8))).shape
    TensorShape([8, 32, 32, 3])
    """

    rate: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    value: float | tuple[float, ...] = IMAGENET_MEAN

    def __post_init__(self):
        check_rate(self)
        check_box(self)

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images of any type to the same type."""
        key = self.own(key)
        size = tf.shape(images)[-3:-1]
        fits, box = random_box(key, size, self.area, self.ratio)
        touched = fits & (draws.uniform(draws.fold(key, -1), 1)[..., 0] < self.rate)
        inside = in_box(box, size) & touched[..., tf.newaxis, tf.newaxis]
        return tf.where(inside[..., tf.newaxis], tf.cast(self.value, images.dtype), images)


@dataclasses.dataclass(frozen=True)
class RandAugment(Random):
    """keras-cv's RandAugment (Cubuk et al. 2019) with draws that are a function of the key.

    keras-cv's layers draw from TensorFlow's global generators, so that threads race for the numbers. But they draw in
    one method and calculate in another, `augment_images(images, transformations)`, which is public: its policy and its
    pixels are used here, with the transformations drawn by this part, from the same distributions.

    Args:
        count: how many operations an image goes through, of ten; each is drawn anew.
        magnitude: their mean strength, from 0 to 1.
        spread: standard deviation of the strength.
        rate: probability that an operation is carried out; keras-cv's 10 / 11 stands for the paper's identity.

    Example:
    >>> RandAugment()(tf.zeros((32, 32, 3)), draws.example_keys(seed=1, epoch=0, index=0)).shape
    TensorShape([32, 32, 3])
    """

    count: int = 2
    magnitude: float = 0.5
    spread: float = 0.15
    rate: float = 10 / 11
    one_by_one: ClassVar[bool] = True

    def __post_init__(self):
        check_rate(self)
        for name in ("magnitude", "spread"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1. Received: {name}={getattr(self, name)!r}.")

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One image of any type to float32."""
        if images.shape.rank != 3:
            refuse_batch(self, images)
        import keras_cv  # half a second, for those who use it

        with tf.init_scope():  # the layers hold a generator each, which no graph may own; they are not asked to draw
            layers = keras_cv.layers.RandAugment.get_standard_policy((0, 255), self.magnitude, self.spread)
        for layer in layers:
            layer.dtype_policy = "float32"  # whatever the process's policy is
        key = self.own(key)
        images = tf.cast(images, tf.float32)[tf.newaxis]
        for i in range(self.count):
            images = self._operation(layers, images, draws.fold(key, i))
        return images[0]

    def _operation(self, layers, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        chosen = draws.integers(draws.fold(key, 0), [len(layers)])[0]
        applied, place = tf.unstack(draws.uniform(draws.fold(key, 1), 2))
        normal = draws.normal(draws.fold(key, 2), 2)
        strength = tf.clip_by_value(self.magnitude + self.spread * normal[:1], 0.0, 1.0)
        signed = tf.reshape(tf.where(place < 0.5, -strength, strength), (1, 1))
        between = self.magnitude * tf.reshape(2 * place - 1, (1, 1))  # for what keras-cv draws uniformly
        nothing = tf.zeros((1, 1))
        addition = tf.clip_by_value(self.magnitude + self.spread * normal[0], 0.0, 1.0) * 110
        threshold = 255 - tf.clip_by_value(self.magnitude + self.spread * normal[1], 0.0, 1.0) * 255
        transformations = {
            "AutoContrast": [None],
            "Equalization": [None],
            "Solarization": [{"additions": addition, "thresholds": threshold}],
            "RandomColorDegeneration": [strength],
            "RandomContrast": [1 + between[0]],
            "RandomBrightness": [255 * between[0]],
            "RandomShear": [{"shear_x": signed, "shear_y": None}, {"shear_x": None, "shear_y": signed}],
            "RandomTranslation": [
                {"height_translations": nothing, "width_translations": between},
                {"height_translations": between, "width_translations": nothing},
            ],
        }
        branches = []
        for layer in layers:
            transformation = transformations[type(layer).__name__].pop(0)
            branches.append(_bind(layer, images, transformation))
        return tf.cond(applied < self.rate, lambda: tf.switch_case(chosen, branches), lambda: images)


def _bind(layer, images: tf.Tensor, transformation):
    def run():
        return tf.ensure_shape(layer.augment_images(images, transformations=transformation), images.shape)

    # In a graph keras-cv's equalisation needs to be converted: it has tensors in a Python `and`.
    return run if tf.executing_eagerly() else tf.function(run, autograph=True)


def normalization(preprocessing: Preprocessing | str = "torch") -> tuple[Part, ...]:
    """The parts that do what `preprocess_input` does: the order of the channels, mean, standard deviation.

    Example:
    >>> normalization("caffe")
    (ReverseChannels(), Normalize(mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)))
    """
    preprocessing = named(preprocessing)
    reverse = (ReverseChannels(),) if preprocessing.channel_order == "bgr" else ()
    return (*reverse, Normalize(preprocessing.mean, preprocessing.std))


def mean_image(batches: Iterable[Any]) -> np.ndarray:
    """The mean of many images of one size, for the paper's per-pixel mean.

    Args:
        batches: an array `(images, height, width, channels)`, or batches of this shape: arrays or a `tf.data.Dataset`.

    Returns:
        float32 of shape `(height, width, channels)`.

    Example:
    >>> mean_image(np.full((10, 32, 32, 3), 7, "uint8")).shape
    (32, 32, 3)
    """
    total, count = 0.0, 0
    for batch in [batches] if isinstance(batches, np.ndarray) else batches:
        batch = np.asarray(batch)
        if batch.ndim != 4:
            raise ValueError(f"Batches must be (images, height, width, channels). Received: shape {batch.shape}.")
        total, count = total + batch.sum(axis=0, dtype=np.float64), count + len(batch)
    if not count:
        raise ValueError("There are no images to take the mean of. Received: no batches.")
    return np.float32(total / count)


def in_box(box: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Which pixels lie in a box `(..., 4)` of top, left, height, width: boolean `(..., *size)`."""
    inside = []
    for axis in (0, 1):
        begin, length = box[..., axis : axis + 1], box[..., axis + 2 : axis + 3]
        place = tf.range(size[axis])
        inside.append((place >= begin) & (place < begin + length))
    return inside[0][..., :, tf.newaxis] & inside[1][..., tf.newaxis, :]
