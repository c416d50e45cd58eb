"""What a network takes for an image, as data; and what its 1000 numbers mean.

The numbers of a `Preprocessing` belong to weights, not to a network: a network trained on BGR images with a mean
subtracted answers nonsense for RGB images between 0 and 1. So they travel with the weights.
"""

import dataclasses
import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From an RGB image with values from 0 to 255 to what a network was trained on.

    Args:
        image_size: height and width of the centre crop that goes into the network.
        resize: length of the image's shorter side before that crop.
        interpolation: how it is resized: `"bilinear"` or `"bicubic"`, with antialiasing.
        channel_order: `"rgb"` or `"bgr"`.
        mean: what is subtracted from each channel, in the network's order of channels.
        std: what each channel is divided by after that.

    Example:
    >>> Preprocessing(resize=232).mean
    (123.675, 116.28, 103.53)
    """

    image_size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    channel_order: str = "rgb"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)

    def __post_init__(self):
        for name, choices in (("interpolation", ("bilinear", "bicubic")), ("channel_order", ("rgb", "bgr"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={getattr(self, name)!r}.")
        if not 0 < self.image_size <= self.resize:
            raise ValueError(
                "The crop must fit into the resized image: 0 < image_size <= resize. "
                f"Received: image_size={self.image_size}, resize={self.resize}."
            )
        if not len(self.mean) == len(self.std) or not all(value > 0 for value in self.std):
            raise ValueError(
                "`mean` and `std` have one number a channel each, and `std` no zero. "
                f"Received: mean={self.mean}, std={self.std}."
            )


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

NAMED = {
    # ImageNet's mean and standard deviation of RGB / 255 (.485 .456 .406, .229 .224 .225): torchvision, timm.
    "torch": Preprocessing(),
    # The paper subtracts the mean and divides by nothing.
    "paper": Preprocessing(std=(1.0, 1.0, 1.0)),
    # From -1 to 1: timm's V2 networks. Keras's name for it, as the two beside it are.
    "tf": Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3),
    # The mean colour of He et al.'s Caffe networks, which keras.applications' weights are: BGR, not scaled.
    "caffe": Preprocessing(channel_order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)),
    # CIFAR-10's own mean and standard deviation.
    "cifar10": Preprocessing(image_size=32, resize=32, mean=(125.31, 122.95, 113.87), std=(62.99, 62.09, 66.70)),
    # What pytorch_resnet_cifar10's networks were trained with: ImageNet's numbers on CIFAR's images.
    "torch_cifar": Preprocessing(image_size=32, resize=32),
}


def named(preprocessing: Preprocessing | str) -> Preprocessing:
    """A preprocessing by its name; what is one already is given back.

    Example:
    >>> named("caffe").channel_order
    'bgr'
    """
    if isinstance(preprocessing, str):
        if preprocessing not in NAMED:
            raise ValueError(f"`preprocessing` must be one of {', '.join(NAMED)}. Received: {preprocessing!r}.")
        preprocessing = NAMED[preprocessing]
    return preprocessing


def preprocess_input(x: Any, preprocessing: Preprocessing | str = "torch", data_format: str | None = None) -> Any:
    """Normalises images: order of the channels, mean, standard deviation. It neither resizes nor crops.

    Args:
        x: RGB images with values from 0 to 255, of any number type: an array, or a tensor of any backend, of shape
            `(..., height, width, channels)` (`(..., channels, height, width)` if channels come first).
        preprocessing: a `Preprocessing`, or the name of one: `"torch"`, `"paper"`, `"tf"`, `"caffe"`, `"cifar10"` or
            `"torch_cifar"`.
        data_format: `"channels_last"` or `"channels_first"`; Keras's image data format if None.

    Returns:
        float32 of the same shape: an array for an array, a tensor for a tensor. `x` is not changed.

    Example:
    >>> preprocess_input(np.full((1, 2, 2, 3), 255, "uint8"), "caffe")[0, 0, 0].round(2)
    array([151.06, 138.22, 131.32], dtype=float32)
    """
    import keras

    preprocessing = named(preprocessing)
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"`data_format` must be 'channels_last' or 'channels_first'. Received: {data_format!r}.")
    axis = -1 if data_format == "channels_last" else -3
    channels = len(preprocessing.mean)
    if len(x.shape) < 3 or x.shape[axis] != channels:
        raise ValueError(f"Images must have {channels} channels, on axis {axis}. Received: shape {tuple(x.shape)}.")

    x = x.astype("float32") if isinstance(x, np.ndarray) else keras.ops.cast(x, "float32")
    if preprocessing.channel_order == "bgr":
        x = x[..., ::-1] if axis == -1 else x[..., ::-1, :, :]
    shape = (channels,) if axis == -1 else (channels, 1, 1)
    mean, std = (np.reshape(np.float32(values), shape) for values in (preprocessing.mean, preprocessing.std))
    return (x - mean) / std


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """ImageNet's 1000 classes in the order of the networks' outputs, as `(WordNet id, name)`.

    Example:
    >>> imagenet_classes()[207]
    ('n02099601', 'golden retriever')
    """
    text = resources.files("keras_resnet").joinpath("imagenet_classes.tsv").read_text("utf-8")
    return tuple(tuple(line.split("\t")) for line in text.splitlines())


def decode_predictions(
    predictions: Any, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Names the highest scores.

    Args:
        predictions: `(batch, classes)`, an array or a tensor.
        top: how many classes of each image.
        class_names: names of the classes; ImageNet's if None, which takes 1000 of them.

    Returns:
        For each image a list of `(id, name, score)`, the highest score first. The id is the WordNet id, or the
        number of the class where `class_names` is given.

    Example:
    >>> decode_predictions(np.eye(1000)[[207]], top=1)
    [[('n02099601', 'golden retriever', 1.0)]]
    """
    import keras

    classes = imagenet_classes() if class_names is None else [(str(i), name) for i, name in enumerate(class_names)]
    scores = keras.ops.convert_to_numpy(predictions)
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError(
            f"`predictions` must have the shape (batch, {len(classes)}), a score for each class. "
            f"Received: shape {scores.shape}."
        )
    if not 1 <= top <= len(classes):
        raise ValueError(f"`top` must lie between 1 and the number of classes, {len(classes)}. Received: top={top}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*classes[i], float(row[i])) for i in order] for row, order in zip(scores, best)]
