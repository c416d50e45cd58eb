"""TFLite files for phones: plain RGB in, probabilities out, class names inside, in four sizes.

A file takes uint8 images of the network's size and normalises them itself. Each is run and compared with the network
before it appears under its name.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.cards import Card
from keras_resnet.classifiers import run_tflite
from keras_resnet.data.augmentation import Stack, apply, evaluation, for_device
from keras_resnet.data.storage import Source
from keras_resnet.export.compare import Comparison, Examples, compare, examples
from keras_resnet.export.metadata import add_metadata
from keras_resnet.export.network import frozen_network
from keras_resnet.preprocessing import preprocess_input


class Quantization(NamedTuple):
    """One way to make a file smaller, and how far its probabilities may lie from the network's."""

    weights: tf.DType | None  # float16: stored so; None: as the converter chooses
    optimizes: bool
    integer: bool  # whether activations are integers too
    tolerance: float


# ResNet-20 and 44 on CIFAR-10 differ by up to 0.004 (float16), 0.09 (dynamic) and 0.4 (int8, between two like classes).
QUANTIZATIONS = {
    "none": Quantization(None, optimizes=False, integer=False, tolerance=1e-3),
    "float16": Quantization(tf.float16, optimizes=True, integer=False, tolerance=0.05),
    "dynamic": Quantization(None, optimizes=True, integer=False, tolerance=0.5),
    "int8": Quantization(None, optimizes=True, integer=True, tolerance=0.8),
}


def export_tflite(
    model: keras.Model,
    card: Card,
    path: str | os.PathLike,
    quantize: str = "none",
    *,
    calibration: Iterable[np.ndarray] | None = None,
    compared: Examples | None = None,
    dynamic_batch: bool = False,
    uint8_output: bool = False,
) -> Comparison:
    """Writes a TFLite file with labels and metadata, runs it and compares it with the network.

    Args:
        model: a network of this package with its top.
        card: its card.
        path: the file. It appears after it has passed the comparison.
        quantize: `"none"` (float32), `"float16"` (half the size), `"dynamic"` (int8 weights) or `"int8"` (all int8).
        calibration: for `"int8"`: uint8 images `(size, size, 3)`, of the training set: see `calibration_images`.
        compared: what to compare on: see `compare.examples`; pictures drawn at random if None.
        dynamic_batch: whether an interpreter may resize the input to any batch; else the batch is 1.
        uint8_output: for `"int8"`: probabilities as uint8 (times 1/256) instead of float32.

    Returns:
        How far the file's answers lie from the network's.

    Raises:
        ValueError: if they lie too far.

    Example:
    >>> card = default_card("ResNet20", NAMED["cifar10"], 10)
    >>> export_tflite(keras_resnet.ResNet20(), card, "resnet20.tflite").agreement
    1.0
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize` must be one of {', '.join(QUANTIZATIONS)}. Received: quantize={quantize!r}.")
    integer = QUANTIZATIONS[quantize].integer
    if integer and calibration is None:
        raise ValueError("int8 is calibrated on training images: give `calibration`. Received: calibration=None.")
    if uint8_output and not integer:
        raise ValueError(f"uint8 outputs belong to quantize='int8'. Received: quantize={quantize!r}.")
    converter = _converter(model, card, quantize, dynamic_batch)
    if integer:
        converter.representative_dataset = lambda: ([np.float32(image[None])] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8 if uint8_output else tf.float32

    path = Path(path)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        part.write_bytes(add_metadata(converter.convert(), card))
        images, expected = compared or examples(model, card)
        result = compare(expected, run_tflite(part)[0](images), QUANTIZATIONS[quantize].tolerance, path.name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return result


def calibration_images(source: Source, card: Card, count: int = 256) -> list[np.ndarray]:
    """Images to calibrate int8 with, as they come to the file.

    Args:
        source: the training images.
        card: the network's card.
        count: how many, drawn at random, always the same.

    Returns:
        uint8 images `(size, size, 3)`.

    Example:
    >>> calibration = calibration_images(open_source("cifar10", "train"), card)  # doctest: +SKIP
    """
    stack = device_images(card)
    images = source.stream(seed=0).take(min(count, source.num_examples)).map(lambda image, _: apply(stack, image))
    return list(images.as_numpy_iterator())


def device_images(card: Card) -> Stack:
    """What is done to an image before it comes to a file that normalises it: resize, crop, round to uint8."""
    return for_device(evaluation(card.preprocessing))[0]


def _converter(model: keras.Model, card: Card, quantize: str, dynamic_batch: bool) -> tf.lite.TFLiteConverter:
    network, row, size = frozen_network(model, card), QUANTIZATIONS[quantize], card.preprocessing.image_size
    # A uint8 that is cast to float32 is as good as a float32 input; the input of integers is made by the converter.
    dtype = tf.float32 if row.integer else tf.uint8
    batch = None if dynamic_batch else 1

    @tf.function(input_signature=[tf.TensorSpec((batch, size, size, 3), dtype, name="image")])
    def run(image):
        return {"probability": network(preprocess_input(image, card.preprocessing, "channels_last"))["probabilities"]}

    # The converter takes what is reachable from a module; here all weights are in the graph.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], tf.Module())
    if row.optimizes:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if row.weights is not None:
        converter.target_spec.supported_types = [row.weights]
    return converter
