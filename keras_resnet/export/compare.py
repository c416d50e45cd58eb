"""Whether what was exported answers as the network does."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet.cards import Card
from keras_resnet.classifiers import probabilities_of
from keras_resnet.preprocessing import preprocess_input

_CLEAR = 0.2  # an image is clear where the best class leads by this much
_CLEAR_AGREEMENT = 0.9

Classifier = Callable[[np.ndarray], np.ndarray]


class Examples(NamedTuple):
    """Images to compare on, and what the network says to them."""

    images: np.ndarray  # uint8 (n, size, size, 3)
    probabilities: np.ndarray  # (n, classes)


class Comparison(NamedTuple):
    """How two classifiers' answers to the same images differ."""

    images: int
    agreement: float  # share of images of the same best class
    difference: float  # largest difference of a probability


def compare(expected: np.ndarray, received: np.ndarray, tolerance: float, name: str) -> Comparison:
    """Compares probabilities.

    Args:
        expected: the network's, `(n, classes)`.
        received: what the exported file gives for the same images.
        tolerance: the largest difference that is allowed.
        name: what the file is called in a complaint.

    Returns:
        The `Comparison`.

    Raises:
        ValueError: if there is a number that is none, if a probability differs by more than `tolerance`, or if more
            than a tenth of the images whose best class leads clearly get another one.

    Example:
    >>> compare(np.eye(2), np.eye(2), 0.1, "x.tflite")
    Comparison(images=2, agreement=1.0, difference=0.0)
    """
    if not np.isfinite(received).all():
        raise ValueError(f"{name} gives numbers that are none, for {np.isnan(received).any(1).sum()} images.")
    same = expected.argmax(1) == received.argmax(1)
    result = Comparison(len(expected), float(same.mean()), float(np.abs(expected - received).max()))
    second, best = np.sort(expected, axis=1)[:, -2:].T
    clear = best - second > _CLEAR
    if result.difference > tolerance or (clear.any() and same[clear].mean() < _CLEAR_AGREEMENT):
        raise ValueError(
            f"{name} does not answer as the network does: the best class is the same for {result.agreement:.1%} of "
            f"{result.images} images, probabilities differ by up to {result.difference:.2g}, allowed {tolerance:.2g}."
        )
    return result


def examples(model: keras.Model, card: Card, images: np.ndarray | None = None) -> Examples:
    """Examples of a network; of pictures drawn at random if there are no images.

    Example:
    >>> examples(keras_resnet.ResNet20(), default_card("ResNet20", NAMED["cifar10"], 10)).probabilities.shape
    (16, 10)
    """
    images = pictures(card) if images is None else images
    return Examples(images, classifier(model, card)(images))


def classifier(model: keras.Model, card: Card) -> Classifier:
    """The network itself as a function of uint8 images `(n, size, size, 3)` to probabilities `(n, classes)`.

    Example:
    >>> run = classifier(keras_resnet.ResNet20(), default_card("ResNet20", NAMED["cifar10"], 10))
    >>> run(np.zeros((2, 32, 32, 3), "uint8")).shape
    (2, 10)
    """
    run = probabilities_of(model)
    return lambda images: run(preprocess_input(images, card.preprocessing, "channels_last")).numpy()


def pictures(card: Card, count: int = 16) -> np.ndarray:
    """Smooth colours with some noise, where there are no images: uint8 `(count, size, size, 3)`."""
    random, size = np.random.default_rng(0), card.preprocessing.image_size
    coarse = random.uniform(0, 255, (count, 4, 4, 3)).astype("float32")
    smooth = keras.ops.convert_to_numpy(keras.ops.image.resize(coarse, (size, size), data_format="channels_last"))
    return np.clip(smooth + random.normal(0, 16, smooth.shape), 0, 255).astype("uint8")
