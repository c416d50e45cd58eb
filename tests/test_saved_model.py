"""The SavedModel: whatever bytes come, each image has its row; and nothing of this package is needed to serve it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import REDUCED, small, trained

import keras_resnet
from keras_resnet.cards import Card
from keras_resnet.classifiers import probabilities_of
from keras_resnet.data.augmentation import apply, evaluation
from keras_resnet.export.declared import declared_pixels
from keras_resnet.export.saved_model import export_saved_model
from keras_resnet.preprocessing import NAMED, Preprocessing

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos" / "val"
MAX_PIXELS = 200_000
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)


def jpeg(pixels, **settings):
    return tf.io.encode_jpeg(pixels, **settings).numpy()


def png(pixels):
    return tf.io.encode_png(pixels).numpy()


def bmp(pixels, top_down=False):
    """24 bits, no compression, rows of a multiple of four bytes."""
    height, width, _ = pixels.shape
    rows = np.pad(pixels[:, :, ::-1].reshape(height, -1), [(0, 0), (0, -3 * width % 4)])
    numbers = np.array([40, width, -height if top_down else height], "<i4").tobytes() + b"\1\0\x18\0" + bytes(24)
    return b"BM" + bytes(8) + b"\x36\0\0\0" + numbers + (rows if top_down else rows[::-1]).tobytes()


def gif(*frames, screen=(0, 0)):
    """Frames of one colour, given as (width, height); each LZW code is a clear code or a pixel, so that none grows."""
    content = b"GIF89a" + np.array(screen, "<u2").tobytes() + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    for width, height in frames:
        codes = [code for _ in range(width * height) for code in (4, 0)] + [5]
        bits = np.array([code >> place & 1 for code in codes for place in range(3)], np.uint8)
        data = np.packbits(bits, bitorder="little").tobytes()
        pieces = [data[start : start + 255] for start in range(0, len(data), 255)]
        content += b"\x21\xf9\x04\0\0\0\0\0"  # an extension, as animations have
        content += b"\x2c\0\0\0\0" + np.array([width, height], "<u2").tobytes() + b"\0\2"
        content += b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"
    return content + b"\x3b"


GOOD = {
    "jpeg": jpeg(PIXELS),
    "grey": jpeg(PIXELS[..., :1]),
    "png": png(PIXELS),
    "rgba": png(np.dstack([PIXELS, PIXELS[..., :1]])),
    "16 bit": png(PIXELS.astype(np.uint16) * 257),
    "bmp": bmp(PIXELS),
    "bmp, top row first": bmp(PIXELS, top_down=True),
    "animated gif": gif((12, 9), (12, 9), screen=(12, 9)),
    "1x1": png(PIXELS[:1, :1]),
    "10,000x10": png(np.zeros((10, 10_000, 3), np.uint8)),
}
BAD = {
    "empty": b"",
    "text": b"not an image",
    "random": RANDOM.bytes(1000),
    "truncated jpeg": jpeg(PIXELS)[:300],
    "header alone": png(PIXELS)[:20],
    "bomb": png(np.zeros((1000, 1000, 1), np.uint8)),
    "gif bomb": gif((4, 4), screen=(4, 4)).replace(b"\4\0\4\0\0\2", b"\xff\xff\xff\xff\0\2"),
    "bmp of a palette": b"BM" + bytes(26) + b"\x08" + bytes(100),
}


@pytest.fixture(scope="module")
def network():
    return small(classifier_activation=None)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    model, card = network
    return export_saved_model(model, card, tmp_path_factory.mktemp("served"), top=2, max_pixels=MAX_PIXELS)


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(folder).signatures


def answer(signatures, images, signature="serving_default", name="image_bytes"):
    if name == "image_bytes":
        images = tf.constant(images, tf.string)
    return {name: values.numpy() for name, values in signatures[signature](**{name: images}).items()}


def expected(network, encoded):
    model, card = network
    images = tf.stack([apply(evaluation(card.preprocessing), image) for image in encoded])
    pooled = keras.Model(model.input, model.get_layer("head_pool").output)
    return probabilities_of(model)(images).numpy(), pooled(images).numpy()


def test_each_image_has_its_row(network, signatures):
    mixed = [*BAD.values(), *GOOD.values(), *BAD.values()]
    valid = np.array([False] * len(BAD) + [True] * len(GOOD) + [False] * len(BAD))
    outputs = answer(signatures, mixed)
    probabilities, features = expected(network, GOOD.values())
    np.testing.assert_array_equal(outputs["valid"], valid, f"{[*BAD, *GOOD, *BAD]}")
    np.testing.assert_allclose(outputs["probabilities"][valid], probabilities, atol=1e-5)
    assert not outputs["probabilities"][~valid].any()
    assert not outputs["scores"][~valid].any()
    assert set(outputs["classes"][~valid].ravel()) == {b""}

    names = np.array([name.encode() for name in network[1].class_names])
    order = np.argsort(-probabilities, axis=1)[:, :2]
    np.testing.assert_array_equal(outputs["classes"][valid], names[order])
    np.testing.assert_allclose(outputs["scores"][valid], np.take_along_axis(probabilities, order, 1), atol=1e-5)

    pooled = answer(signatures, mixed, "features")
    np.testing.assert_array_equal(pooled["valid"], valid)
    np.testing.assert_allclose(pooled["features"][valid], features, atol=1e-5)
    assert not pooled["features"][~valid].any()


def test_batches_of_nothing(signatures):
    for images in ([], [b""], [*BAD.values()]):
        for signature, width in (
            ("serving_default", {"probabilities": 3, "scores": 2}),
            ("features", {"features": 64}),
        ):
            outputs = answer(signatures, images, signature)
            assert outputs["valid"].tolist() == [False] * len(images)
            assert {name: outputs[name].shape for name in width} == {n: (len(images), w) for n, w in width.items()}


def test_arrays_are_answered_as_their_files_are(signatures):
    wanted = answer(signatures, [png(PIXELS), png(PIXELS[::-1])])
    batch = np.stack([PIXELS, PIXELS[::-1]])
    for signature, images in (("images_uint8", batch), ("images", batch.astype("float32"))):
        outputs = answer(signatures, tf.constant(images), signature, "images")
        np.testing.assert_allclose(outputs["probabilities"], wanted["probabilities"], atol=1e-6)
        np.testing.assert_array_equal(outputs["classes"], wanted["classes"])
        none = answer(signatures, tf.zeros((0, 5, 5, 3), images.dtype), signature, "images")
        assert none["probabilities"].shape == (0, 3)
    wrong = np.where([[[[True]]], [[[False]]]], np.nan, batch).astype("float32")
    outputs = answer(signatures, tf.constant(wrong), "images", "images")
    assert outputs["valid"].tolist() == [False, True]
    np.testing.assert_allclose(outputs["probabilities"], [[0, 0, 0], wanted["probabilities"][1]], atol=1e-6)


def test_photographs_are_answered_as_in_python(network, signatures):
    photographs = [path.read_bytes() for path in sorted(PHOTOS.glob("*/*.jpg"))[::7]]
    if not photographs:
        pytest.skip("the photographs do not lie in ../shared/data")
    outputs = answer(signatures, photographs)
    np.testing.assert_allclose(outputs["probabilities"], expected(network, photographs)[0], atol=1e-4)


def test_what_lies_in_the_folder(network, folder):
    model, card = network
    assert folder.name == "1"
    size = sum(path.stat().st_size for path in folder.rglob("*") if "assets.extra" not in path.parts)
    assert size < 4 * model.count_params() + 500_000  # the graph itself
    assert Card.from_json((folder / "assets.extra" / "card.json").read_text()) == card


def test_a_folder_appears_only_if_its_answers_are_right(network, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_resnet.export.saved_model._TOLERANCES", {"float32": -1.0})
    with pytest.raises(ValueError, match="does not answer as the network does"):
        export_saved_model(*network, tmp_path)
    assert not list(tmp_path.iterdir())


def test_warm_up_requests_are_what_serving_reads(folder, signatures):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is missing")
    records = tf.data.TFRecordDataset(str(folder / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [logs.PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    assert {request.model_spec.signature_name for request in requests} == set(signatures)
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        assert signatures[request.model_spec.signature_name](**inputs)["valid"].numpy().all()


PLAIN_TENSORFLOW = """
    import json, sys
    sys.modules["keras_resnet"] = sys.modules["keras"] = None  # importing them raises
    import tensorflow as tf
    signatures = tf.saved_model.load(sys.argv[1]).signatures
    outputs = signatures["serving_default"](image_bytes=tf.constant([open(sys.argv[2], "rb").read()]))
    print(json.dumps([outputs["probabilities"].numpy().tolist(), outputs["classes"].numpy()[0, 0].decode()]))
"""


def test_it_is_served_without_this_package(folder, signatures, tmp_path):
    (tmp_path / "image.png").write_bytes(png(PIXELS))
    command = [sys.executable, "-c", textwrap.dedent(PLAIN_TENSORFLOW), str(folder), "image.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True)
    probabilities, best = json.loads(result.stdout)
    here = answer(signatures, [png(PIXELS)])
    np.testing.assert_allclose(probabilities, here["probabilities"], atol=1e-6)
    assert best == here["classes"][0, 0].decode()


@pytest.mark.parametrize(
    "name, settings", [("ResNet50V2", {"dtype": "bfloat16"}), ("SEResNet50", {"fold": False}), ("ResNeXt50_32x4d", {})]
)
def test_kinds_of_networks_and_preprocessings(name, settings, tmp_path):
    """Each is compared with the network as it is written."""
    model = trained(keras_resnet.build(REDUCED[name], input_shape=(48, 48, 3), classes=3))
    preprocessing = Preprocessing(image_size=48, resize=50, interpolation="bicubic", channel_order="bgr")
    card = Card(network=name, preprocessing=preprocessing, class_names=("a", "b", "c"))
    (tmp_path / "7").mkdir()
    assert export_saved_model(model, card, tmp_path, **settings) == tmp_path / "8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8"]  # nothing half-written


def test_what_cannot_be_exported_is_refused(network, tmp_path):
    model, card = network
    headless = keras_resnet.ResNet20(include_top=False, depths=(1, 1, 1))
    fixed = keras_resnet.ResNet20(depths=(1, 1, 1), classes=3)
    nameless = Card(network="ResNet20", preprocessing=NAMED["cifar10"], class_names=("a",))
    for arguments, settings, complaint in (
        ((headless, card), {}, "include_top=True"),
        ((fixed, card), {}, r"input_shape=\(None, None, 3\)"),
        ((fixed, nameless), {}, "1 names for 3 classes"),
        ((model, card), {"dtype": "float16"}, "dtype='float16'"),
    ):
        with pytest.raises(ValueError, match=complaint):
            export_saved_model(*arguments, tmp_path, **settings)


@pytest.mark.parametrize("encoded, pixels", [(GOOD["10,000x10"], 100_000), (GOOD["animated gif"], 2 * 12 * 9)])
def test_declared_sizes(encoded, pixels):
    assert declared_pixels(encoded) == pixels
    lossy = b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + np.array([640, 0x4000 + 480], "<u2").tobytes()
    bits = np.array([(640 - 1) | (480 - 1) << 14], "<u4").tobytes()
    lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + bits
    extended = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
    assert [int(declared_pixels(webp)) for webp in (lossy, lossless, extended)] == [640 * 480] * 3
