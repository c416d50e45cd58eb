"""The networks that this project has trained: the files are those that were measured, and answer as they did.

Recorded anew by `python tests/test_trained.py`.
"""

import csv
import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.recipe import uniform

import keras_resnet
from keras_resnet.weights.catalog import TRAINED
from keras_resnet.weights.download import download

pytestmark = pytest.mark.lower_house

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "trained.json"
CIFAR10 = ROOT.parent / "shared" / "data" / "tensorflow_datasets"
each_network = pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.network)


def generated_images() -> np.ndarray:
    """A dozen ellipses before a ground that darkens: uint8, (12, 32, 32, 3)."""
    rows, columns = np.mgrid[:32, :32]
    drawn = []
    for number in range(12):
        v = uniform(f"trained{number}", (10,), 0, 1)
        ground, ink = 255 * v[:3] * (1 - 0.5 * rows[..., np.newaxis] / 31), 255 * v[3:6]
        (y, x), (height, width) = 8 + 16 * v[6:8], 4 + 8 * v[8:]
        inside = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
        drawn.append(np.where(inside[..., np.newaxis], ink, ground))
    return np.rint(drawn).astype("uint8")


def logits(row) -> np.ndarray:
    model = keras_resnet.get_model(row.network, weights="cifar10", classifier_activation=None)
    inputs = keras_resnet.preprocess_input(generated_images(), row.preprocessing)
    return keras.ops.convert_to_numpy(model(inputs, training=False))


@each_network
def test_the_logits_are_those_recorded(row):
    found, recorded = logits(row), np.array(json.loads(GOLDEN.read_text())[row.network])
    assert len({*recorded.argmax(1)}) > 1  # the images are not all one to it
    np.testing.assert_allclose(found, recorded, atol=1e-3)


@each_network
def test_a_damaged_file_is_refused_and_not_deleted(row):
    with pytest.raises(ValueError, match=r"package is damaged.*begin with 00.*Received: "):
        download(dataclasses.replace(row, hash="sha256:00"))
    assert download(row).is_file()


@each_network
def test_the_row_the_log_and_the_files_are_of_one_training(row):
    folder = ROOT / "results" / "cifar10" / row.network
    config = json.loads((folder / "config.json").read_text())
    assert (config["model"], config["seed"], config["dataset"]) == (row.network, row.seed, "cifar10")
    assert f"--epochs={config['epochs']:g} " in f"{row.command} "
    with (folder / "log.csv").open() as file:
        last = [*csv.DictReader(file)][-1]
    assert int(last["epoch"]) == config["epochs"]
    # Trained in bfloat16, the row's errors are in float32.
    assert 1 - float(last["val_accuracy"]) == pytest.approx(row.errors / row.images, abs=1e-3)
    report = json.loads((ROOT / "saved_models" / row.network.lower() / "report.json").read_text())
    measured = {file["file"]: file["accuracy"] for file in report["files"] if "accuracy" in file}
    assert measured["the network"] == pytest.approx(1 - row.errors / row.images, abs=1e-9)


@each_network
def test_the_int8_file_agrees(row):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
    path = ROOT / "saved_models" / row.network.lower() / f"{row.network.lower()}-int8.tflite"
    network = interpreter.Interpreter(str(path))
    network.allocate_tensors()
    (given,), (asked,) = network.get_input_details(), network.get_output_details()
    recorded = np.array(json.loads(GOLDEN.read_text())[row.network])
    probabilities = np.exp(recorded) / np.exp(recorded).sum(axis=1, keepdims=True)
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    files = json.loads(path.with_name("report.json").read_text())["files"]
    # Of two classes that are no further apart than the file is from the network, either may win.
    decided = first - second > next(file["difference"] for file in files if file["file"] == path.name)
    assert decided.sum() >= 10
    for image, expected in zip(generated_images()[decided], recorded[decided]):
        network.set_tensor(given["index"], image[np.newaxis])
        network.invoke()
        assert network.get_tensor(asked["index"]).argmax() == expected.argmax()


@pytest.mark.slow
@each_network
def test_the_errors_are_those_published(row):
    """All 10,000 images through `recipes/evaluate.py`'s own functions, and through the .tflite files."""
    if not CIFAR10.is_dir():
        pytest.skip(f"CIFAR-10 is not there: {CIFAR10}")
    pytest.importorskip("tensorflow", reason="evaluation is TensorFlow's")
    from keras_resnet.classifiers import open_classifier
    from keras_resnet.data.sources import open_source
    from keras_resnet.evaluation import evaluate

    test = open_source("cifar10", "test", data_dir=CIFAR10)
    assert evaluate(open_classifier(row.network, weights="cifar10"), test).summary()["errors"] == row.errors
    folder = ROOT / "saved_models" / row.network.lower()
    for file in json.loads((folder / "report.json").read_text())["files"]:
        if file["file"].endswith(".tflite"):
            result = evaluate(open_classifier(str(folder / file["file"])), test)
            assert result.correct == round(file["accuracy"] * row.images), file["file"]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({row.network: logits(row).round(5).tolist() for row in TRAINED}) + "\n")
