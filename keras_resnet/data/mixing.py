"""The parts of a stack that mix the images of a batch, and their labels with them."""

import dataclasses

import tensorflow as tf

from keras_resnet.data import draws
from keras_resnet.data.color import in_box
from keras_resnet.data.parts import Random


class Mixing(Random):
    """A part that is called with labels too: `part(images, labels, keys)` gives images and labels.

    What an example is mixed with depends on what else is in its batch; the draws depend on the key of the first.
    keras-cv's layers of these names draw in private from TensorFlow's global generator, so they are not used.
    """

    def seed(self, key: tf.Tensor) -> tf.Tensor:
        """The batch's seed for TensorFlow's stateless operations."""
        return draws.tensorflow_seed(self.own(key)[0])

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images `(batch, height, width, channels)`, labels `(batch, classes)`, keys `(batch,)` to float32 of both."""
        if images.shape.rank != 4 or labels.shape.rank != 2:
            raise ValueError(
                f"{type(self).__name__} mixes batches: images (batch, height, width, channels) and one-hot labels "
                f"(batch, classes). Received: shapes {images.shape} and {labels.shape}."
            )
        return self.mix(tf.cast(images, tf.float32), tf.cast(labels, tf.float32), key)

    def mix(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same, for float32."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class MixUp(Mixing):
    """Each image becomes a weighted mean with another of the batch, and its label too (Zhang et al. 2017).

    Args:
        alpha: the image's own weight has the distribution Beta(alpha, alpha), drawn for each image.

    Example:
    >>> keys = draws.example_keys(seed=1, epoch=0, index=tf.range(8))
    >>> images, labels = MixUp(0.2)(tf.zeros((8, 4, 4, 3)), tf.eye(8), keys)
    """

    alpha: float = 0.2

    def __post_init__(self):
        _check_alpha(self)

    def mix(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Mixing.__call__`."""
        weight, partner = weights_and_partners(self.seed(key), tf.shape(images)[0], self.alpha)
        image_weight = weight[:, tf.newaxis, tf.newaxis, tf.newaxis]
        images = image_weight * images + (1 - image_weight) * tf.gather(images, partner)
        return images, _mix_labels(labels, weight, partner)


@dataclasses.dataclass(frozen=True)
class CutMix(Mixing):
    """A box of each image is taken from another of the batch (Yun et al. 2019); labels are mixed by area.

    Args:
        alpha: the share of the image that is its own has the distribution Beta(alpha, alpha) before the box, whose
            centre is uniform, is clipped to the image. The labels' weights are the shares that are really there.

    Example:
    >>> keys = draws.example_keys(seed=1, epoch=0, index=tf.range(8))
    >>> images, labels = CutMix()(tf.zeros((8, 4, 4, 3)), tf.eye(8), keys)
    """

    alpha: float = 1.0

    def __post_init__(self):
        _check_alpha(self)

    def mix(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Mixing.__call__`."""
        weight, partner = weights_and_partners(self.seed(key), tf.shape(images)[0], self.alpha)
        size = tf.shape(images)[1:3]
        sides = tf.cast(tf.sqrt(1 - weight)[:, tf.newaxis] * tf.cast(size, tf.float32), tf.int32)
        centre = draws.integers(self.own(key), size)
        begin = tf.maximum(centre - sides // 2, 0)
        end = tf.minimum(centre - sides // 2 + sides, size)
        inside = in_box(tf.concat([begin, end - begin], axis=1), size)
        images = tf.where(inside[..., tf.newaxis], tf.gather(images, partner), images)
        own_share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
        return images, _mix_labels(labels, own_share, partner)


@dataclasses.dataclass(frozen=True)
class Either(Mixing):
    """One of several mixings, drawn for each batch with equal chances.

    Args:
        mixings: the mixings, such as `(MixUp(), CutMix())`.

    Example:
    >>> keys = draws.example_keys(seed=1, epoch=0, index=tf.range(8))
    >>> images, labels = Either((MixUp(), CutMix()))(tf.zeros((8, 4, 4, 3)), tf.eye(8), keys)
    """

    mixings: tuple[Mixing, ...]

    def mix(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Mixing.__call__`."""
        chosen = draws.integers(self.own(key)[0], [len(self.mixings)])[0]
        return tf.switch_case(chosen, [lambda mixing=m: mixing.mix(images, labels, key) for m in self.mixings])


def weights_and_partners(seed: tf.Tensor, count: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """For each image of a batch its own weight, from Beta(alpha, alpha), and another image's number.

    Args:
        seed: int32 `(2,)`.
        count: number of images.
        alpha: parameter of the distribution.

    Returns:
        float32 and int32 of shape `(count,)`. The numbers are a permutation: an image may meet itself.

    Example:
    >>> weight, partner = weights_and_partners(tf.constant([1, 2]), 8, alpha=0.2)
    """
    # A small alpha gives numbers that float32 cannot tell from 0, and then 0 / 0.
    gammas = tf.random.stateless_gamma((2, count), seed, alpha=tf.constant(alpha, tf.float64), dtype=tf.float64)
    weight = tf.cast(gammas[0] / tf.reduce_sum(gammas, axis=0), tf.float32)
    partner = tf.random.experimental.stateless_shuffle(tf.range(count), seed + tf.constant([0, 1]))
    return weight, partner


def _mix_labels(labels: tf.Tensor, weight: tf.Tensor, partner: tf.Tensor) -> tf.Tensor:
    return weight[:, tf.newaxis] * labels + (1 - weight[:, tf.newaxis]) * tf.gather(labels, partner)


def _check_alpha(part: MixUp | CutMix) -> None:
    if not part.alpha > 0:
        raise ValueError(f"`alpha` must be positive; without mixing, leave the part out. Received: {part.alpha!r}.")
