"""Augmentation as a stack of small parts: a tuple that one reads in a line, and one function that executes it.

>>> stack = (ScaleJitter(256, 480), RandomCrop(224), RandomFlip(), ColorAugmentation(0.1), SubtractMean())
>>> encoded = tf.io.encode_jpeg(tf.zeros((375, 500, 3), tf.uint8))
>>> image = apply(stack, encoded, example_keys(seed=1, epoch=0, index=7))

Everything is a pure function of the image and of a key that is made from (seed, epoch, index of the example). Where a
stack begins with parts that choose what is seen (scale, crop, mirror), only that is decoded, and resampled once:
`windows.py`. Neighbours that add and scale are executed as one.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.color import (
    CIFAR10_MEAN,
    IMAGENET_MEAN,
    ColorAugmentation,
    ColorJitter,
    Normalize,
    RandAugment,
    RandomErasing,
    ReverseChannels,
    SubtractMean,
    ToUint8,
    mean_image,
    normalization,
)
from keras_resnet.data.draws import example_keys
from keras_resnet.data.geometry import (
    CenterCrop,
    InceptionCrop,
    Pad,
    RandomCrop,
    RandomFlip,
    Resize,
    ScaleJitter,
    TenCrops,
)
from keras_resnet.data.mixing import CutMix, Either, Mixing, MixUp
from keras_resnet.data.parts import Affine, Affinity, Geometric, Part, Random
from keras_resnet.data.windows import View, decode, render
from keras_resnet.preprocessing import Preprocessing, named

__all__ = [
    "CIFAR10_MEAN",
    "IMAGENET_MEAN",
    "CenterCrop",
    "ColorAugmentation",
    "ColorJitter",
    "CutMix",
    "Either",
    "InceptionCrop",
    "MixUp",
    "Mixing",
    "Normalize",
    "Pad",
    "Part",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "Resize",
    "ReverseChannels",
    "ScaleJitter",
    "SubtractMean",
    "TenCrops",
    "ToUint8",
    "apply",
    "cifar",
    "evaluation",
    "example_keys",
    "for_device",
    "front",
    "inception",
    "mean_image",
    "modern",
    "multi_scale",
    "normalization",
    "paper_imagenet",
    "split",
    "ten_crops",
]

Stack = tuple[Part, ...]
_ON_DEVICE = (Normalize, ReverseChannels)


@tf.autograph.experimental.do_not_convert  # there is nothing to convert, and tracing takes half as long
def apply(stack: Sequence[Part], images: Any, key: Any = None, labels: Any = None) -> Any:
    """Executes a stack on one image, encoded or not, or on a batch of images of one size.

    Args:
        stack: the parts, in their order.
        images: one encoded image (a string), one image `(height, width, channels)`, or a batch
            `(batch, height, width, channels)`, with values from 0 to 255.
        key: the image's key, or the images' keys `(batch,)`: see `example_keys`. Not needed where nothing is drawn.
        labels: one-hot labels `(batch, classes)`, where the stack mixes (`MixUp`, `CutMix`, `Either`).

    Returns:
        The images: float32, or uint8 where the stack only moves the pixels of uint8 images or ends in `ToUint8`.
        With `labels` a pair, images and float32 labels.

    Example:
    >>> encoded = tf.io.encode_jpeg(tf.zeros((375, 500, 3), tf.uint8))
    >>> apply(paper_imagenet(), encoded, example_keys(seed=1, epoch=0, index=7)).shape
    TensorShape([224, 224, 3])
    """
    stack, images = tuple(stack), tf.convert_to_tensor(images)
    key = None if key is None else tf.convert_to_tensor(key)
    _check(stack, images, key, labels)
    labels = None if labels is None else tf.convert_to_tensor(labels)
    if images.dtype == tf.string and not _views(stack):
        images = decode(images)
    while stack:
        count = _views(stack) if images.dtype == tf.string or images.shape.rank == 3 else 0
        if count:
            images = _see(stack[:count], images, key)
        elif isinstance(stack[0], Affine):
            run = list(itertools.takewhile(lambda part: isinstance(part, Affine), stack))
            count, affinity = len(run), Affinity()
            for part in run:
                affinity = affinity.then(part.affinity(key))
            images = affinity(images)
        elif isinstance(stack[0], Mixing):
            count = 1
            images, labels = stack[0](images, labels, key)
        else:
            count = 1
            images = stack[0](images, key)
        stack = stack[count:]
    return images if labels is None else (images, labels)


def split(stack: Sequence[Part], encoded: bool = True) -> tuple[Stack, Stack]:
    """Splits a stack where its images can be batched: what comes after is cheaper in batches.

    Args:
        stack: the parts, in their order.
        encoded: whether the images that come in are encoded, or else arrays of one size (as CIFAR's are).

    Returns:
        What is for one image at a time, and what is for batches; `apply` executes either, with the same keys.

    Example:
    >>> one, batch = split(paper_imagenet())
    >>> one
    (ScaleJitter(salt=0, low=256, high=480, interpolation='bilinear', antialias=None), RandomCrop(salt=0, size=224),
    RandomFlip(salt=0, rate=0.5))
    """
    stack = tuple(stack)
    _check_draws(stack)
    single = [i + 1 for i, part in enumerate(stack) if part.one_by_one]
    at = max([_views(stack) if encoded else 0, *single])
    at += _views(stack[at:]) if single else 0  # a crop after a scaling is what gives images one size
    return stack[:at], stack[at:]


def for_device(stack: Sequence[Part]) -> tuple[Stack, Stack]:
    """Splits a stack into what gives uint8, and the normalisation that is left to the device (see `front`).

    The images are rounded (by less than half a grey level) and clipped to 0 to 255 on the way. What mixes images stays
    on the host: a weighted mean of images and their normalisation can be done in either order.

    Example:
    >>> host, device = for_device(paper_imagenet())
    >>> device
    (Normalize(mean=(123.675, 116.28, 103.53), std=1.0),)
    """
    stack = tuple(stack)
    at = len(stack)
    while at and isinstance(stack[at - 1], (*_ON_DEVICE, Mixing)):
        at -= 1
    host = stack[:at] + tuple(part for part in stack[at:] if isinstance(part, Mixing))
    if any(isinstance(part, _ON_DEVICE) for part in host):
        raise ValueError(
            f"Images cannot be uint8 on the way to the device if a part follows the normalisation. Received: {stack}."
        )
    return (*host, ToUint8()), tuple(part for part in stack[at:] if isinstance(part, _ON_DEVICE))


def front(device_stack: Sequence[Part], shape: tuple[int | None, ...] = (None, None, 3)) -> keras.Model:
    """What is left to the device, as layers to put before a network: `network(front(device)(images))`.

    Args:
        device_stack: the second of what `for_device` returns.
        shape: of one image.

    Returns:
        A model without weights from images with values from 0 to 255, uint8 or float32, to normalised ones, float32. It
        needs Keras alone, and saves with what it is put into.

    Example:
    >>> front(for_device(paper_imagenet())[1])(np.full((1, 2, 2, 3), 200, "uint8")).numpy()[0, 0, 0].round(2)
    array([76.32, 83.72, 96.47], dtype=float32)
    """
    x = images = keras.Input(shape, dtype="float32")  # uint8 becomes that on the device
    for part in device_stack:
        if isinstance(part, ReverseChannels):
            x = keras.ops.flip(x, axis=-1)
        else:
            x = (x - np.float32(part.mean)) / np.float32(part.std)
    return keras.Model(images, x, name="front")


def paper_imagenet(
    size: int = 224, low: int = 256, high: int = 480, sigma: float = 0.1, mean: Any = IMAGENET_MEAN
) -> Stack:
    """He et al. 2015, section 3.4; `mean` is a mean image of `size`, or a mean colour.

    Example:
    >>> [type(part).__name__ for part in paper_imagenet()]
    ['ScaleJitter', 'RandomCrop', 'RandomFlip', 'ColorAugmentation', 'Normalize']
    """
    return (ScaleJitter(low, high), RandomCrop(size), RandomFlip(), ColorAugmentation(sigma), SubtractMean(mean))


def cifar(mean: Any = CIFAR10_MEAN, size: int = 32, padding: int = 4) -> Stack:
    """He et al. 2015, section 4.2; `mean` is the mean image (`mean_image`), or a mean colour.

    Example:
    >>> [type(part).__name__ for part in cifar()]
    ['Pad', 'RandomCrop', 'RandomFlip', 'Normalize']
    """
    return (Pad(padding), RandomCrop(size), RandomFlip(), SubtractMean(mean))


def inception(size: int = 224, jitter: float = 0.4, preprocessing: Preprocessing | str = "torch") -> Stack:
    """Crops of random area and aspect ratio, and colour jitter: what most trainings since have used.

    Example:
    >>> [type(part).__name__ for part in inception(size=160)][:3]
    ['InceptionCrop', 'RandomFlip', 'ColorJitter']
    """
    return (InceptionCrop(size), RandomFlip(), ColorJitter(jitter, jitter, jitter), *normalization(preprocessing))


def modern(size: int = 224, magnitude: float = 0.5, preprocessing: Preprocessing | str = "torch") -> Stack:
    """Inception's crop, RandAugment, erasing, MixUp or CutMix: for networks that are trained for very long.

    Example:
    >>> modern(size=160)[-1]
    Either(salt=0, mixings=(MixUp(salt=0, alpha=0.2), CutMix(salt=0, alpha=1.0)))
    """
    mixing = Either((MixUp(0.2), CutMix(1.0)))
    erasing = RandomErasing(0.25)
    return (
        InceptionCrop(size),
        RandomFlip(),
        RandAugment(2, magnitude),
        erasing,
        *normalization(preprocessing),
        mixing,
    )


def evaluation(preprocessing: Preprocessing | str = "torch") -> Stack:
    """What published accuracies of one crop are measured with: shorter side, centre, normalisation.

    Example:
    >>> evaluation("torch")[:2]
    (Resize(size=256, interpolation='bilinear', antialias=True), CenterCrop(size=224))
    """
    found = named(preprocessing)
    resize = Resize(found.resize, found.interpolation, antialias=True)
    return (resize, CenterCrop(found.image_size), *normalization(found))


def ten_crops(preprocessing: Preprocessing | str = "torch") -> Stack:
    """The paper's first test: `(10, size, size, 3)` of each image; the softmax is averaged over the ten.

    Example:
    >>> ten_crops("torch")[1]
    TenCrops(size=224)
    """
    found = named(preprocessing)
    resize = Resize(found.resize, found.interpolation, antialias=True)
    return (resize, TenCrops(found.image_size), *normalization(found))


def multi_scale(
    preprocessing: Preprocessing | str = "torch", sides: Sequence[int] = (224, 256, 384, 480, 640)
) -> tuple[Stack, ...]:
    """The paper's second test, a stack for each scale: whole images, their shorter side as said, for a dense head.

    Example:
    >>> len(multi_scale("torch", sides=(224, 256)))
    2
    """
    found = named(preprocessing)
    return tuple((Resize(side, found.interpolation, antialias=True), *normalization(found)) for side in sides)


def _see(parts: Stack, image: tf.Tensor, key: Any) -> tf.Tensor:
    def lens(view: View) -> View:
        for part in parts:
            view = part.view(view, key)
        return view

    return render(image, lens)


def _views(stack: Stack) -> int:
    """How many of the first parts one view can stand for: nothing after a mirror, and one scaling."""
    resampled = False
    for count, part in enumerate(stack):
        if not isinstance(part, Geometric) or (part.resamples and resampled):
            return count
        if part.mirrors:
            return count + 1
        resampled |= part.resamples
    return len(stack)


def _check(stack: Stack, images: tf.Tensor, key: Any, labels: Any) -> None:
    _check_draws(stack)
    rank = 0 if images.dtype == tf.string else 3
    # Rank 5: a batch of the crops of images, between `TenCrops` and the normalisation.
    if images.shape.rank not in ((rank,) if images.dtype == tf.string else (3, 4, 5)):
        raise ValueError(
            "`images` must be one encoded image (a scalar string), an image (height, width, channels) or a batch of "
            f"images. Received: shape {images.shape}, {images.dtype.name}."
        )
    drawing = [type(part).__name__ for part in stack if isinstance(part, Random)]
    shape = images.shape[: max(images.shape.rank - 3, 0)]
    if drawing and (key is None or key.dtype != tf.uint64 or not shape.is_compatible_with(key.shape)):
        received = None if key is None else f"shape {key.shape}, {key.dtype.name}"
        raise ValueError(
            f"{drawing[0]} draws, so `key` must hold a key for each image, of shape {shape}: see example_keys(). "
            f"Received: key={received}."
        )
    mixing = [type(part).__name__ for part in stack if isinstance(part, Mixing)]
    if mixing and labels is None:
        raise ValueError(f"{mixing[0]} mixes labels too: pass them, one-hot. Received: labels=None.")


def _check_draws(stack: Stack) -> None:
    seen = set()
    choices = [mixing for part in stack if isinstance(part, Either) for mixing in part.mixings]
    for part in (*stack, *choices):
        if isinstance(part, Random):
            name = (type(part).__name__, part.salt)
            if name in seen:
                raise ValueError(
                    f"Two parts of one class would draw the same numbers: give one of them another `salt`. "
                    f"Received: two {name[0]} with salt={name[1]}."
                )
            seen.add(name)
