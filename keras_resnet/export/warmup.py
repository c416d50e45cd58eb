"""Warm-up requests, which TensorFlow Serving runs before it takes others: the first one is slow.

It reads `PredictionLog` messages, whose classes TensorFlow does not have. Three levels of nesting need no library:
a protocol buffer is a row of fields, and a field is a number, a length and the content.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.cards import Card

_FILE = "assets.extra/tf_serving_warmup_requests"


def write_warmup_requests(saved_model: Path, card: Card) -> None:
    """Writes one request for each signature into a SavedModel.

    Args:
        saved_model: its folder.
        card: the card of the network in it.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    encoded = {"image_bytes": np.array([tf.io.encode_jpeg(pixels).numpy()])}
    requests = {
        "serving_default": encoded,
        "features": encoded,
        "images": {"images": pixels[None].astype("float32")},
        "images_uint8": {"images": pixels[None]},
    }
    path = saved_model / _FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, inputs in requests.items():
            file.write(_prediction_log(card.network, signature, inputs))


def _prediction_log(model: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """`PredictionLog(predict_log=PredictLog(request=PredictRequest(model_spec=ModelSpec(...), inputs={...})))`."""
    specification = _field(1, model.encode()) + _field(3, signature.encode())
    request = _field(1, specification)
    for name, array in inputs.items():
        tensor = tf.make_tensor_proto(array).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A field that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
