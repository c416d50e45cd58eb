"""A SavedModel that takes what a client has, encoded images, and gives named classes: for TensorFlow Serving.

All that belongs to the weights is in the graph: decoding, resize, crop, normalisation, class names. Batch norms are
folded, and the weights are constants: TensorFlow then lays them out for its kernels once, not with every request.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnet.cards import Card
from keras_resnet.classifiers import probabilities_of
from keras_resnet.data.augmentation import apply, evaluation
from keras_resnet.export.compare import compare, pictures
from keras_resnet.export.declared import declared_pixels
from keras_resnet.export.network import frozen_network
from keras_resnet.export.warmup import write_warmup_requests

# What is allowed for probabilities, by what the network computes in.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}


def export_saved_model(
    model: keras.Model,
    card: Card,
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    fold: bool = True,
    top: int = 5,
    max_pixels: int = 2**26,
) -> Path:
    """Writes a SavedModel into the next numbered folder, as TensorFlow Serving expects it.

    The signatures give a row for each image, in order. A row whose image cannot be decoded, declares more than
    `max_pixels` or has a NaN has `valid` false, zeros and empty names; its neighbours do not suffer.

    - `serving_default`: `image_bytes`, encoded images (JPEG, PNG, GIF, BMP, WebP) of shape `(n,)`, to `probabilities`
      `(n, classes)`; `classes` and `scores` `(n, top)`, the best first; `valid` `(n,)`.
    - `images`: float32 RGB with values from 0 to 255, `(n, height, width, 3)` of any size, to the same;
      `images_uint8`: the same for uint8.
    - `features`: `image_bytes` to the pooled `features` `(n, channels)` and `valid`.

    Args:
        model: a network of this package with its top.
        card: its card.
        path: the folder of the model, which gets a folder `1`, `2`, ... more.
        dtype: what the network computes in: `"float32"` or `"bfloat16"`.
        fold: whether batch norms are folded; `dtype` needs it.
        top: how many classes are named.
        max_pixels: the largest image that is decoded.

    Returns:
        The numbered folder. It appears all at once, after it was run and compared with the network: a server that
        looks on never sees half of one.

    Raises:
        ValueError: if its answers lie too far from the network's.

    Example:
    >>> card = default_card("ResNet20", NAMED["cifar10"], 10)
    >>> folder = export_saved_model(keras_resnet.ResNet20(), card, "served/resnet20")
    >>> sorted(tf.saved_model.load(folder).signatures)
    ['features', 'images', 'images_uint8', 'serving_default']
    """
    if dtype not in _TOLERANCES:
        raise ValueError(f"`dtype` must be one of {', '.join(_TOLERANCES)}. Received: dtype={dtype!r}.")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    network = frozen_network(model, card, dtype, fold)
    signatures = _signatures(network, card, top, max_pixels)
    module = tf.Module()
    module.signatures_of = signatures  # what is saved must be reachable from what is saved
    version = 1 + max((int(folder.name) for folder in path.iterdir() if folder.name.isdigit()), default=0)
    part = path / f".{os.getpid()}-{version}"
    try:
        tf.saved_model.save(module, part, signatures=signatures)
        _check(part, model, card, _TOLERANCES[dtype])
        write_warmup_requests(part, card)
        (part / "assets.extra" / "card.json").write_text(card.to_json() + "\n", "utf-8")
        part.rename(path / str(version))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path / str(version)


def _check(folder: Path, model: keras.Model, card: Card, tolerance: float) -> None:
    encoded = [tf.io.encode_png(picture) for picture in pictures(card, 4)]
    images = tf.stack([apply(evaluation(card.preprocessing), image) for image in encoded])
    expected = probabilities_of(model)(images).numpy()
    loaded = tf.saved_model.load(folder)
    received = loaded.signatures["serving_default"](image_bytes=tf.stack(encoded))["probabilities"].numpy()
    compare(expected, received, tolerance, f"the SavedModel of {card.network}")


def _signatures(network: Callable, card: Card, top: int, max_pixels: int) -> dict[str, Callable]:
    names, top = tf.constant(card.class_names), min(top, len(card.class_names))
    image_bytes = tf.TensorSpec([None], tf.string, name="image_bytes")

    @tf.function(autograph=False)
    def answers(rows):
        count = tf.shape(rows)[0]
        index, images = _prepare(rows, card, max_pixels)
        outputs = network(images)
        good = index >= 0
        index = tf.boolean_mask(index, good)[:, tf.newaxis]

        def in_place(values):
            values = tf.boolean_mask(values, good)
            return tf.scatter_nd(index, values, tf.concat([[count], tf.shape(values)[1:]], axis=0))

        outputs = {name: in_place(values) for name, values in outputs.items()}
        return outputs | {"valid": in_place(good)}

    def classify(rows):
        outputs = answers(rows)
        scores, classes = tf.math.top_k(outputs["probabilities"], top)
        named = tf.where(outputs["valid"][:, tf.newaxis], tf.gather(names, classes), "")
        return {
            "probabilities": outputs["probabilities"],
            "classes": named,
            "scores": scores,
            "valid": outputs["valid"],
        }

    def features(rows):
        outputs = answers(rows)
        return {"features": outputs["features"], "valid": outputs["valid"]}

    def signature(function, spec):
        return tf.function(function, input_signature=[spec], autograph=False)

    def images(dtype):
        return tf.TensorSpec([None, None, None, 3], dtype, name="images")

    return {
        "serving_default": signature(classify, image_bytes),
        "images": signature(classify, images(tf.float32)),
        "images_uint8": signature(classify, images(tf.uint8)),
        "features": signature(features, image_bytes),
    }


def _prepare(rows: tf.Tensor, card: Card, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What the network takes for images, of those rows that are images: their numbers, and themselves.

    In a graph nothing but a dataset survives an error: `ignore_errors` drops the row that had it. Where no row is an
    image, there is one of number -1: neither `get_single_element` nor oneDNN's convolutions take an empty batch.
    """
    size, stack = card.preprocessing.image_size, evaluation(card.preprocessing)

    def prepare(number, row):
        if row.dtype == tf.string:
            fit = declared_pixels(row) <= max_pixels
        else:
            fit = tf.reduce_all(tf.math.is_finite(tf.cast(row, tf.float32)))
        with tf.control_dependencies([tf.debugging.Assert(fit, ["The image is too large, or not finite."])]):
            row = tf.identity(row)
        return number, apply(stack, row)

    parallel, plain = tf.data.AUTOTUNE, tf.autograph.experimental.do_not_convert
    good = tf.data.Dataset.from_tensor_slices(rows).enumerate().map(plain(prepare), parallel, deterministic=True)
    none = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros((size, size, 3))))
    batch = good.ignore_errors().concatenate(none).batch(tf.shape(rows, tf.int64)[0] + 1)
    index, images = batch.get_single_element()
    some = tf.maximum(tf.size(index) - 1, 1)
    return tf.cast(index[:some], tf.int32), images[:some]
