"""TFLite files: each kind of network, each size; what a phone needs is inside. MediaPipe itself: `tox -e mobile`."""

from pathlib import Path

import numpy as np
import pytest
from networks import REDUCED, small, trained

import keras_resnet
from keras_resnet.cards import Card, open_model, read_card
from keras_resnet.classifiers import run_tflite
from keras_resnet.data.sources import open_source
from keras_resnet.export.compare import classifier, compare, pictures
from keras_resnet.export.metadata import read_labels
from keras_resnet.export.report import accuracies
from keras_resnet.export.tflite import QUANTIZATIONS, calibration_images, export_tflite
from keras_resnet.preprocessing import Preprocessing

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra `export` is not installed")
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def network():
    return small(classifier_activation=None)


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The four sizes of one network, and how each compares."""
    model, card = network
    folder = tmp_path_factory.mktemp("tflite")
    return {
        name: (
            folder / f"{name}.tflite",
            export_tflite(model, card, folder / f"{name}.tflite", name, calibration=pictures(card, 32)),
        )
        for name in QUANTIZATIONS
    }


def details(path):
    interpreter = litert.Interpreter(model_path=str(path))
    (entry,), (outlet,) = interpreter.get_input_details(), interpreter.get_output_details()
    return entry, outlet


def test_four_sizes(network, files):
    model, card = network
    images = np.random.default_rng(1).integers(0, 256, (4, 24, 24, 3), np.uint8)
    wanted = classifier(model, card)(images)
    bounds = {"none": 1e-5, "float16": 1e-2, "dynamic": 0.1, "int8": 0.2}
    sizes = {}
    for name, (path, result) in files.items():
        assert result.agreement >= 0.9, name
        np.testing.assert_allclose(run_tflite(path)[0](images), wanted, atol=bounds[name], err_msg=name)
        entry, outlet = details(path)
        assert (entry["dtype"], entry["shape"].tolist(), outlet["dtype"]) == (np.uint8, [1, 24, 24, 3], np.float32)
        assert read_labels(path.read_bytes()) == ["cat", "犬", "fish"]
        assert read_card(path) == card
        sizes[name] = path.stat().st_size / 4 / model.count_params()
    assert sizes["int8"] < 0.5 < sizes["float16"] < 0.7 < sizes["none"] < 1.2


def test_metadata_is_where_readers_look(files):
    """What is in it, MediaPipe judges (`test_mobile.py`)."""
    from ai_edge_litert import schema_py_generated as schema

    content = files["none"][0].read_bytes()
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content)
    names = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    metadata = model.Buffers(names[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert metadata[4:8] == b"M001"
    for text in (b"ResNet20", b"image", b"probability", b"labels.txt", b"1.0.0"):
        assert text in metadata


def test_the_batch_can_be_dynamic_and_the_output_uint8(network, tmp_path):
    model, card = network
    images = pictures(card, 5)
    export_tflite(model, card, tmp_path / "x.tflite", "none", dynamic_batch=True)
    interpreter = litert.Interpreter(model_path=str(tmp_path / "x.tflite"))
    interpreter.resize_tensor_input(0, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, images)
    interpreter.invoke()
    received = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(received, classifier(model, card)(images), atol=1e-5)

    export_tflite(model, card, tmp_path / "y.tflite", "int8", calibration=images, uint8_output=True)
    assert details(tmp_path / "y.tflite")[1]["dtype"] == np.uint8
    np.testing.assert_allclose(run_tflite(tmp_path / "y.tflite")[0](images), received, atol=0.2)


@pytest.mark.parametrize("name", REDUCED)
def test_every_kind_of_network_is_exported(name, tmp_path):
    """Each is compared with the network as it is written."""
    model = trained(keras_resnet.build(REDUCED[name], input_shape=(32, 32, 3), classes=3))
    preprocessing = Preprocessing(image_size=32, resize=32, channel_order="bgr")
    card = Card(network=name, preprocessing=preprocessing, class_names=("a", "b", "c"))
    assert export_tflite(model, card, tmp_path / "x.tflite").difference < 1e-4


def test_a_file_appears_only_if_its_answers_are_right(network, tmp_path, monkeypatch):
    monkeypatch.setitem(QUANTIZATIONS, "none", QUANTIZATIONS["none"]._replace(tolerance=-1.0))
    with pytest.raises(ValueError, match=r"x\.tflite does not answer as the network does"):
        export_tflite(*network, tmp_path / "x.tflite")
    assert not list(tmp_path.iterdir())
    for settings, complaint in (
        (("int4",), "quantize='int4'"),
        (("int8",), "calibration=None"),
    ):
        with pytest.raises(ValueError, match=complaint):
            export_tflite(*network, tmp_path / "x.tflite", *settings)
    with pytest.raises(ValueError, match="quantize='float16'"):
        export_tflite(*network, tmp_path / "x.tflite", "float16", uint8_output=True)


def test_comparison():
    expected = np.array([[0.9, 0.1], [0.45, 0.55], [0.2, 0.8]])
    same = compare(expected, expected[:, ::-1] * [[0], [1], [0]] + expected * [[1], [0], [1]], 0.2, "x")
    assert same == (3, pytest.approx(2 / 3), pytest.approx(0.1))  # the second is a near tie
    with pytest.raises(ValueError, match=r"x does not answer .* 0\.0% of 3 images"):
        compare(expected, expected[:, ::-1], 1.0, "x")
    with pytest.raises(ValueError, match="for 1 images"):
        compare(expected, np.where(expected == 0.1, np.nan, expected), 1.0, "x")


@pytest.mark.parametrize("file, depth", [("resnet20-12fca82f.th", 20)])
def test_int8_keeps_the_accuracy_of_published_weights(file, depth, tmp_path):
    """On the first 1000 test images; of all 10,000 the command reports."""
    if not (SHARED / "checkpoints" / file).is_file():
        pytest.skip("the published checkpoints do not lie in ../shared/data")
    weights = str(SHARED / "checkpoints" / file)
    model, card = open_model(f"ResNet{depth}", weights, "torch_cifar", zero_channels="around")
    training, test = (
        open_source("cifar10", split, data_dir=SHARED / "tensorflow_datasets") for split in ("train", "test[:1000]")
    )
    runs = {"float": classifier(model, card)}
    for name, calibration in (("float16", None), ("int8", calibration_images(training, card))):
        export_tflite(model, card, tmp_path / "x.tflite", name, calibration=calibration)
        runs[name] = run_tflite(tmp_path / "x.tflite")[0]
    found = accuracies(runs, test, card)
    assert found["float"] > 0.9
    assert abs(found["float16"] - found["float"]) <= 0.001  # one image of 1000
    assert found["int8"] >= found["float"] - 0.005
