"""Trained networks in any form, asked in one way: Keras models, SavedModels and TFLite files.

Two things are asked of an exported network: that a SavedModel has the signatures `serving_default` (encoded images) and
`images` (arrays), which give `probabilities`; and that a TFLite file takes RGB images from 0 to 255 of one size. Both
may have their card with them: in `assets.extra/card.json`, and in a zip archive behind the file, as in a `.keras` file;
a TFLite file may have `labels.txt` there.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.cards import Card, open_model, read_card
from keras_resnet.data import augmentation
from keras_resnet.preprocessing import Preprocessing, named


class Classifier(NamedTuple):
    """A trained network.

    Attributes:
        classify: from a batch of what `stack` gives to probabilities `(batch, classes)`.
        stack: from an image to what `classify` takes; None if it takes encoded images, and arrays of any size.
        class_names: a name for each class; None if they are not known.
        preprocessing: what the network takes for an image; None if that is its own affair.
        model: the Keras model, if it is one.
        path: the file or folder, if it is not.
    """

    classify: Callable
    stack: augmentation.Stack | None
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None = None
    model: keras.Model | None = None
    path: Path | None = None


def open_classifier(
    model: str,
    weights: str | os.PathLike | None = None,
    preprocessing: Preprocessing | str | None = None,
    **settings,
) -> Classifier:
    """Opens a trained network of any form.

    Args:
        model: the name of a network, a `.keras` file, the folder of a SavedModel, or a `.tflite` file.
        weights: as in `keras_resnet.cards.open_model`; only for a name.
        preprocessing: as there.
        **settings: as there; only for a name.

    Returns:
        The `Classifier`.

    Example:
    >>> keras_resnet.weights.save(keras_resnet.ResNet20(), "resnet20.safetensors")
    >>> classifier = open_classifier("ResNet20", "resnet20.safetensors", "cifar10")
    >>> classifier.classify(tf.zeros((2, 32, 32, 3))).shape
    TensorShape([2, 10])
    """
    exported = _open_tflite if model.endswith(".tflite") else _open_saved_model if Path(model).is_dir() else None
    if exported:
        if weights is not None or settings:
            raise ValueError(
                f"An exported network has its weights and settings. Received: model={model!r}, weights={weights!r}, "
                f"settings={settings}."
            )
        if not Path(model).exists():
            raise FileNotFoundError(f"There is no such file: {model!r}.")
        return exported(Path(model), named(preprocessing) if preprocessing else None)
    network, card = open_model(model, weights, preprocessing, **settings)
    return of_model(network, card)


def of_model(model: keras.Model, card: Card) -> Classifier:
    """The classifier that a Keras model and its card make.

    Example:
    >>> card = Card(network="ResNet20", preprocessing=named("cifar10"), class_names=tuple("abcdefghij"))
    >>> classifier = of_model(keras_resnet.ResNet20(), card)
    >>> classify_image(classifier, tf.io.encode_png(tf.zeros((40, 50, 3), tf.uint8)).numpy()).shape
    (10,)
    >>> len(fingerprint(classifier))
    64
    """
    stack = augmentation.evaluation(card.preprocessing)
    return Classifier(probabilities_of(model), stack, card.class_names, card.preprocessing, model)


def probabilities_of(model: keras.Model) -> Callable:
    """From a batch of normalised images to float32 probabilities, whether the model ends in a softmax or in logits.

    Example:
    >>> probabilities_of(keras_resnet.ResNet20())(tf.zeros((1, 32, 32, 3))).shape
    TensorShape([1, 10])
    """

    @tf.function(reduce_retracing=True)
    def classify(images):
        outputs = tf.cast(model(images, training=False), tf.float32)
        return tf.nn.softmax(outputs) if gives_logits(model) else outputs

    return classify


def gives_logits(model: keras.Model) -> bool:
    """Whether a model ends before the softmax.

    Example:
    >>> gives_logits(keras_resnet.ResNet20(classifier_activation=None))
    True
    """
    return getattr(model.layers[-1], "activation", None) is keras.activations.linear


def classify_image(classifier: Classifier, encoded: bytes) -> np.ndarray:
    """The probabilities of one encoded image, as `(classes,)`.

    Raises:
        ValueError: if it cannot be decoded.

    Example:
    >>> classify_image(open_classifier("resnet50.keras"), Path("cat.jpg").read_bytes()).shape  # doctest: +SKIP
    (1000,)
    """
    try:
        image = encoded if classifier.stack is None else augmentation.apply(classifier.stack, encoded)
        return np.asarray(classifier.classify(tf.expand_dims(image, 0)))[0]
    except tf.errors.OpError as error:
        raise ValueError(f"This image cannot be decoded: {reason(error)}") from error


def reason(error: tf.errors.OpError) -> str:
    """What an error of TensorFlow's says, without the names of nodes and of iterators, and without an assertion's.

    Example:
    >>> reason(tf.errors.InvalidArgumentError(None, None, "{{function_node f}} no such format [Op:DecodeImage]"))
    'no such format'
    """
    line = error.message.splitlines()[0]
    said = re.sub(r"\{\{.*?\}\}\s*|Error in .* Iterator::\S*: |\s*\[Op:.*|\s*name: *$", "", line)
    _, asserted, parts = said.partition("assertion failed: ")
    return parts.strip("[]").replace("] [", " ") if asserted else said


def fingerprint(classifier: Classifier) -> str:
    """The SHA-256 of the weights, or of the files of an exported network: which network was it?

    Example:
    >>> len(fingerprint(open_classifier("resnet50.keras")))  # doctest: +SKIP
    64
    """
    digest = hashlib.sha256()
    if classifier.model is not None:
        for array in classifier.model.get_weights():
            digest.update(np.ascontiguousarray(array))
    else:
        folder = classifier.path.is_dir()
        for path in sorted(classifier.path.rglob("*")) if folder else [classifier.path]:
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _open_saved_model(path: Path, preprocessing: Preprocessing | None) -> Classifier:
    """A SavedModel, or the newest of the numbered versions in a folder; its preprocessing is in its graph."""
    versions = [folder for folder in path.iterdir() if folder.name.isdigit() and (folder / "saved_model.pb").is_file()]
    if not (path / "saved_model.pb").is_file():
        if not versions:
            raise ValueError(f"There is no SavedModel in this folder. Received: {str(path)!r}.")
        path = max(versions, key=lambda folder: int(folder.name))
    if preprocessing is not None:
        raise ValueError(f"A SavedModel has its preprocessing in its graph. Received: preprocessing={preprocessing}.")
    loaded = tf.saved_model.load(str(path))
    missing = {"serving_default", "images"} - set(loaded.signatures)
    if missing:
        raise ValueError(
            "A SavedModel must have the signatures `serving_default`, for encoded images, and `images`, for arrays. "
            f"Received: {sorted(loaded.signatures)} in {str(path)!r}."
        )

    def classify(images):
        images = tf.convert_to_tensor(images)
        if images.dtype != tf.string:
            return _ask(loaded.signatures["images"], tf.cast(images, tf.float32))["probabilities"]
        answer = _ask(loaded.signatures["serving_default"], images)
        if "valid" in answer and not np.all(answer["valid"]):
            raise ValueError(f"{np.sum(~answer['valid'].numpy())} of {len(images)} images cannot be decoded.")
        return answer["probabilities"]

    card = path / "assets.extra" / "card.json"
    names = Card.from_json(card.read_text("utf-8")).class_names if card.is_file() else None
    return Classifier(classify, None, names, path=path)


def _ask(signature, tensor):
    (name,) = signature.structured_input_signature[1]
    return signature(**{name: tensor})


def _open_tflite(path: Path, preprocessing: Preprocessing | None) -> Classifier:
    """A TFLite file; it takes RGB, so of its preprocessing only resize and crop are done here."""
    classify, size = run_tflite(path)
    card, names = None, None
    if zipfile.is_zipfile(path):
        card = read_card(path)
        with zipfile.ZipFile(path) as archive:  # of a file that somebody else has labelled
            labels = "labels.txt" in archive.namelist()
            names = tuple(archive.read("labels.txt").decode().splitlines()) if labels else None
    if card is not None:
        preprocessing, names = preprocessing or card.preprocessing, card.class_names
    if preprocessing is None:
        raise ValueError(
            "This .tflite file has no card that says how its images are resized: give `preprocessing`. "
            f"Received: model={str(path)!r}, preprocessing=None."
        )
    if preprocessing.image_size != size:
        raise ValueError(
            f"The file {str(path)!r} takes images of {size} pixels. Received: a preprocessing that gives "
            f"{preprocessing.image_size}."
        )

    stack, _ = augmentation.for_device(augmentation.evaluation(preprocessing))
    return Classifier(classify, stack, names, preprocessing, path=path)


def run_tflite(path: str | os.PathLike, threads: int | None = None) -> tuple[Callable, int]:
    """Opens a TFLite file with LiteRT.

    Args:
        path: the file.
        threads: how many threads it runs on; as many as there are cores if None.

    Returns:
        A function from RGB images from 0 to 255, `(n, size, size, 3)`, which it takes one at a time, to float32
        probabilities `(n, classes)`; and the size of an image.

    Example:
    >>> classify, size = run_tflite("resnet20.tflite")  # doctest: +SKIP
    >>> classify(np.zeros((2, size, size, 3), "uint8")).shape  # doctest: +SKIP
    (2, 10)
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("TFLite files are run by ai-edge-litert: pip install ai-edge-litert.") from error
    interpreter = Interpreter(os.fspath(path), num_threads=threads or os.cpu_count())
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], _quantized(image[np.newaxis], taken))
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(given["index"])[0], given)

    def classify(images):
        return np.stack([classify_one(image) for image in np.asarray(images)])

    return classify, int(taken["shape"][1])


def _quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """Numbers in the type of a tensor of a TFLite file."""
    scale, zero_point = tensor["quantization"]
    if not np.issubdtype(tensor["dtype"], np.integer) or not scale:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero_point), limits.min, limits.max).astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    scale, zero_point = tensor["quantization"]
    return (values.astype("float32") - zero_point) * scale if scale else values.astype("float32")
