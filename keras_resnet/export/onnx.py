"""ONNX files, by Keras's own exporter and tf2onnx."""

import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_resnet.cards import Card
from keras_resnet.classifiers import gives_logits
from keras_resnet.export.compare import Comparison, Examples, compare, examples
from keras_resnet.export.folding import fold_batch_norms
from keras_resnet.export.network import check
from keras_resnet.preprocessing import preprocess_input

_TOLERANCE = 1e-3


def export_onnx(
    model: keras.Model, card: Card, path: str | os.PathLike, *, compared: Examples | None = None
) -> Comparison:
    """Writes an ONNX file of uint8 images `(n, size, size, 3)` to probabilities, and compares it with the network.

    Args:
        model: a network of this package with its top.
        card: its card.
        path: the file. It appears after it has passed the comparison.
        compared: what to compare on: see `compare.examples`; pictures drawn at random if None.

    Returns:
        How far the file's answers lie from the network's.

    Raises:
        ValueError: if they lie too far.

    Example:
    >>> card = default_card("ResNet20", NAMED["cifar10"], 10)
    >>> export_onnx(keras_resnet.ResNet20(), card, "resnet20.onnx").agreement  # doctest: +SKIP
    1.0
    """
    check(model, card)
    size, path = card.preprocessing.image_size, Path(path)
    image = keras.Input((size, size, 3), dtype="uint8", name="image")
    outputs = fold_batch_norms(model)(preprocess_input(image, card.preprocessing, "channels_last"))
    if gives_logits(model):
        outputs = keras.layers.Softmax()(outputs)
    images, expected = compared or examples(model, card)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    exported = keras.Model(image, outputs)
    exported(images[:1])  # the exporter wants a model that has been called
    try:
        exported.export(part, format="onnx", verbose=False)
        result = compare(expected, open_onnx(part)(images), _TOLERANCE, path.name)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return result


def open_onnx(path: str | os.PathLike, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Opens an exported file with onnxruntime: a function of uint8 images to probabilities.

    Args:
        path: the file.
        threads: how many threads it runs on; all cores if None.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("ONNX files need more packages: pip install 'keras-resnet-garden[onnx]'.") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count()
    session = onnxruntime.InferenceSession(os.fspath(path), options)
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]
