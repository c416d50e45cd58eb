"""Classification through a server: by our client, and by one that nobody here wrote."""

import doctest
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from networks import small

from keras_resnet.data.folders import EXTENSIONS
from keras_resnet.export.saved_model import export_saved_model

pytest.importorskip(
    "tensorflow_serving", reason="tensorflow-serving-api, of the extras `serving` and `test`, is absent"
)
pytest.importorskip("ovmsclient", reason="ovmsclient, of the extra `test`, is absent")
sys.path.append(str(Path(__file__).parent.parent / "recipes" / "serving"))

import ovmsclient
from classify import SUFFIXES, ask_in_parts, classify, find_images
from google.protobuf import text_format
from load import is_loopback, load_test, percentile
from serving_engines import SERVING, model_server, reason_to_skip
from serving_stand_in import LIMIT, Core, Death, Refusal, served
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2
from transports import Model, RequestError, connect, with_retries

NAMES = {"cat", "犬", "fish"}
SCHEMES = ("grpc", "http")


def encoded(seed, size=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size + 8, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


IMAGES = [encoded(0), encoded(1, 25), encoded(2, 60)]


class Canned(tf.Module):
    """The version before: it says `stable` to whatever comes."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        rows = tf.shape(image_bytes)[0]
        return {
            "classes": tf.fill([rows, 1], "stable"),
            "scores": tf.ones([rows, 1]),
            "valid": tf.fill([rows], True),
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`tiny/1`, canned answers, and `tiny/2`, a network."""
    folder = tmp_path_factory.mktemp("models")
    canned = Canned()
    tf.saved_model.save(canned, folder / "tiny" / "1", signatures={"serving_default": canned.serve})
    assert export_saved_model(*small(), folder / "tiny").name == "2"
    return folder


@pytest.fixture(scope="module")
def core(folder):
    return Core(tiny=folder / "tiny")


@pytest.fixture(scope="module", params=["stand-in", "TensorFlow Serving"])
def targets(request, core, folder, tmp_path_factory):
    if request.param == "stand-in":
        with served(core) as addresses:
            yield addresses
        return
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    config = shutil.copytree(SERVING / "config", tmp_path_factory.mktemp("serving") / "config")
    served_models = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((config / "models.config").read_text(), served_models)
    del served_models.model_config_list.config[1:]  # resnet50, with two versions and two labels, becomes tiny
    served_models.model_config_list.config[0].name = "tiny"
    served_models.model_config_list.config[0].base_path = "/models/tiny"
    (config / "models.config").write_text(text_format.MessageToString(served_models))
    with model_server(folder, config, "tiny") as addresses:
        yield addresses


@pytest.fixture(scope="module")
def expected(folder):
    outputs = tf.saved_model.load(folder / "tiny" / "2").signatures["serving_default"](image_bytes=tf.constant(IMAGES))
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def predict(target, images, **model):
    return connect(target, Model("tiny", **model)).predict(images, 30)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_images_and_a_bad_one_among_them(targets, scheme, expected):
    rows = predict(targets[scheme], [IMAGES[0], b"no image", *IMAGES[1:]])
    assert [row.valid for row in rows] == [True, False, True, True]
    assert rows[1].classes == ["", "", ""]
    for row, scores, classes in zip([rows[0], *rows[2:]], expected["scores"], expected["classes"], strict=True):
        assert row.classes == [name.decode() for name in classes]
        np.testing.assert_allclose(row.scores, scores, rtol=1e-5)
    assert predict(targets[scheme], IMAGES[:1])[0].classes == rows[0].classes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_versions_and_labels(targets, scheme):
    for model in ({"version": 1}, {"label": "stable"}):
        assert predict(targets[scheme], IMAGES[:1], **model)[0].classes == ["stable"]
    for model in ({}, {"version": 2}, {"label": "canary"}):
        assert set(predict(targets[scheme], IMAGES[:1], **model)[0].classes) == NAMES


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("name", "model", "code"),
    [
        ("tony", {}, "NOT_FOUND"),
        ("tiny", {"version": 7}, "NOT_FOUND"),
        ("tiny", {"label": "latest"}, "INVALID_ARGUMENT"),
        ("tiny", {"signature": "no_such"}, "INVALID_ARGUMENT"),
        ("tiny", {"signature": "images"}, "INVALID_ARGUMENT"),
        ("tiny", {"signature": "features"}, "INVALID_ARGUMENT"),
    ],
)
def test_a_wrong_name_is_told(targets, scheme, name, model, code):
    with pytest.raises(RequestError) as told:
        connect(targets[scheme], Model(name, **model)).predict(IMAGES[:1], 30)
    assert told.value.code == code


def test_metadata(targets):
    over_grpc, over_rest = (connect(targets[scheme], Model("tiny")).describe(30) for scheme in SCHEMES)
    assert over_grpc == over_rest
    assert set(over_grpc) == {"serving_default", "features", "images", "images_uint8"}
    assert over_grpc["serving_default"]["inputs"] == {"image_bytes": "DT_STRING [-1]"}
    assert over_grpc["images_uint8"]["inputs"] == {"images": "DT_UINT8 [-1, -1, -1, 3]"}
    assert over_grpc["serving_default"]["outputs"]["probabilities"] == "DT_FLOAT [-1, 3]"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_client_that_nobody_here_wrote(targets, scheme, expected):
    make = {"grpc": ovmsclient.make_grpc_client, "http": ovmsclient.make_http_client}[scheme]
    client = make(targets[scheme].removeprefix(f"{scheme}://"))
    rows = [IMAGES[0], b"no image", *IMAGES[1:]]
    outputs = client.predict({"image_bytes": rows}, "tiny", model_version=2)
    assert outputs["valid"].tolist() == [True, False, True, True]
    np.testing.assert_allclose(outputs["probabilities"][[0, 2, 3]], expected["probabilities"], rtol=1e-5)
    names = [name.decode() if isinstance(name, bytes) else name for name in outputs["classes"][0]]
    assert names == [name.decode() for name in expected["classes"][0]]
    status = client.get_model_status("tiny", model_version=2)
    assert status[2]["state"] == "AVAILABLE"
    metadata = client.get_model_metadata("tiny", model_version=2)
    if scheme == "http":  # it hands TensorFlow Serving's JSON on, as it is
        metadata = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert set(metadata["inputs"]) == {"image_bytes"}
    with pytest.raises(ovmsclient.ModelNotFoundError):
        client.predict({"image_bytes": rows}, "tony", model_version=1)
    with pytest.raises(ovmsclient.InvalidInputError):
        client.predict({"images": rows}, "tiny", model_version=2)


def test_warm_up_requests_are_what_the_server_reads(core, folder):
    """The official messages parse them; a server plays them to the signatures that they name."""
    records = tf.data.TFRecordDataset(str(folder / "tiny" / "2" / "assets.extra" / "tf_serving_warmup_requests"))
    played = set()
    for record in records.as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        request.model_spec.name = "tiny"  # the server takes the folder's network, whatever it is called
        assert tf.make_ndarray(core.predict(request).outputs["valid"]).tolist() == [True]
        played.add(request.model_spec.signature_name)
    assert played == {"serving_default", "features", "images", "images_uint8"}


@pytest.fixture
def own(core):
    """A stand-in for one test, which may end badly."""
    with served(core) as addresses:
        yield addresses
    core.mishaps = iter(())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_oversized_request_goes_in_parts(own, scheme):
    large = IMAGES[0] + bytes(LIMIT // 3)  # what follows a JPEG's end is ignored
    ask = connect(own[scheme], Model("tiny"))
    with pytest.raises(RequestError, match="RESOURCE_EXHAUSTED"):
        ask.predict([large] * 4, 30)
    rows = ask_in_parts(lambda images: ask.predict(images, 30), [large, large, bytes(LIMIT), large])
    assert [isinstance(row, RequestError) for row in rows] == [False, False, True, False]
    assert rows[2].code == "RESOURCE_EXHAUSTED"
    assert rows[0].classes == rows[3].classes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_unavailable_server_is_asked_again(own, scheme, core):
    ask = connect(own[scheme], Model("tiny"))
    attempts = []

    def call(left):
        attempts.append(left)
        return ask.predict(IMAGES[:1], left)

    core.mishaps = iter([Refusal("UNAVAILABLE", "the queue is full")] * 2)
    assert with_retries(call, 30, retries=2, first_wait=0.01)[0].valid
    assert len(attempts) == 3
    assert attempts == sorted(attempts, reverse=True)
    core.mishaps = iter([Refusal("UNAVAILABLE", "the queue is full")] * 3)
    with pytest.raises(RequestError, match="the queue is full"):
        with_retries(call, 30, retries=2, first_wait=0.01)
    core.mishaps = iter([Refusal("INVALID_ARGUMENT", "no")])
    with pytest.raises(RequestError, match="INVALID_ARGUMENT"):
        with_retries(call, 30, retries=2, first_wait=0.01)
    assert len(attempts) == 7
    core.mishaps = iter([Refusal("UNAVAILABLE", "the queue is full")])
    with pytest.raises(RequestError, match="UNAVAILABLE"):
        with_retries(call, 1, retries=2, first_wait=10)  # it would wait beyond the deadline
    assert len(attempts) == 8


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_never_answers(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ask = connect(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", Model("tiny"))
        with pytest.raises(RequestError, match="DEADLINE_EXCEEDED"):
            ask.predict(IMAGES[:1], 0.3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_stops_in_the_middle(own, scheme, core, tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for path, image in zip(paths, [*IMAGES, IMAGES[0]]):
        path.write_bytes(image)
    paths[1].unlink()
    core.mishaps = iter([None, Death()])
    transport = connect(own[scheme], Model("tiny"))
    ask = lambda images: with_retries(lambda left: transport.predict(images, left), 30, 1, 0.01)  # noqa: E731
    results = list(classify(ask, paths, batch_size=1, top=2))
    assert len(results[0]["predictions"]) == 2
    assert "No such file" in results[1]["error"]
    assert "UNAVAILABLE" in results[2]["error"]
    assert "UNAVAILABLE" in results[3]["error"]


def client(*flags, status=0):
    command = [sys.executable, str(SERVING / "client.py"), "--model=tiny", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout or done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    for name, image in [("b.jpg", IMAGES[0]), ("more/a.JPG", IMAGES[1]), ("c.png", b"no image"), ("notes.txt", b"")]:
        (folder / name).write_bytes(image)
    return folder


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_command_line(targets, scheme, pictures, expected):
    lines = client(f"--target={targets[scheme]}", "--json", "--top=1", "--batch_size=2", pictures, status=1)
    results = [json.loads(line) for line in lines.splitlines()]
    named = [str(pictures / name) for name in ("b.jpg", "c.png", "more/a.JPG")]
    assert [result["image"] for result in results] == named
    assert "decode" in results[1]["error"]
    (best,) = results[0]["predictions"]
    assert best["name"] == expected["classes"][0][0].decode()
    np.testing.assert_allclose(best["score"], expected["scores"][0][0], rtol=1e-4)


def test_the_command_line_for_people(targets, pictures):
    rest = f"--target={targets['http']}"
    assert client(rest, "--label=stable", pictures / "b.jpg") == f"{pictures / 'b.jpg'}\n  100.00%  stable\n"
    assert json.loads(client(rest, "--describe"))["serving_default"]["inputs"] == {"image_bytes": "DT_STRING [-1]"}
    report = json.loads(client(rest, "--load", "--json", "--concurrency=2", "--duration=0.5", pictures))
    assert report["requests"] > 0
    assert report["errors"] == {}
    assert 0 < report["p50"] <= report["p95"] <= report["p99"]


def test_what_the_command_line_refuses(pictures, tmp_path):
    picture = pictures / "b.jpg"
    assert "nowhere.jpg: [Errno 2] No such file" in client("nowhere.jpg", status=1)
    assert "no images" in client(tmp_path, status=1)
    assert "http://HOST:PORT" in client("--target=127.0.0.1:8501", picture, status=1)
    assert "--load_elsewhere" in client("--load", "--target=http://192.0.2.1:8501", picture, status=1)
    dead = client("--target=http://127.0.0.1:9", "--retries=1", picture, status=1)
    assert dead.startswith(f"{picture}: UNAVAILABLE")


def test_only_loopback_is_loopback(monkeypatch):
    assert is_loopback("http://127.0.0.1:8501")
    assert is_loopback("grpc://[::1]:8500")
    assert not is_loopback("http://192.0.2.1:8501")
    entries = [(0, 0, 0, "", (address, 0)) for address in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: entries)
    assert not is_loopback("http://both.example:8501")


@hypothesis.given(
    strategies.lists(strategies.floats(0, 1e6), min_size=1, max_size=40), strategies.sampled_from([0.5, 0.95, 0.99])
)
def test_percentiles_are_numpys(values, share):
    assert percentile(values, share) == np.percentile(values, 100 * share, method="inverted_cdf")


def test_the_load_test_counts():
    lock, under_way, most, sent = threading.Lock(), [], [], []

    def ask(batch):
        with lock:
            under_way.append(batch)
            most.append(len(under_way))
            sent.append(batch)
            fail = len(sent) % 4 == 0
        time.sleep(0.01)
        with lock:
            under_way.pop()
        if fail:
            raise RequestError("UNAVAILABLE", "busy")

    report = load_test(ask, [[b"a", b"b"], [b"c", b"d"]], concurrency=3, duration=0.3)
    assert report.requests == len(sent)
    assert report.errors == {"UNAVAILABLE": len(sent) // 4}
    assert max(most) == 3
    answered = report.requests - report.errors["UNAVAILABLE"]
    assert report.images_per_second == pytest.approx(2 * answered / report.seconds)
    assert report.p50 >= 10
    nothing = load_test(lambda _: (_ for _ in ()).throw(RequestError("INTERNAL", "")), [[b""]], 1, 0.01)
    assert nothing.p99 is None


@pytest.mark.parametrize("module", ["classify", "load", "transports"])
def test_the_examples_run(module):
    done = doctest.testmod(sys.modules[module])
    assert done.attempted
    assert not done.failed


def test_find_images_keeps_a_named_file_of_any_kind(pictures):
    assert SUFFIXES == EXTENSIONS
    assert find_images([str(pictures / "notes.txt")]) == [pictures / "notes.txt"]
