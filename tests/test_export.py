"""`recipes/export.py` and its report."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from networks import small

from keras_resnet.cards import save_model
from keras_resnet.data.storage import Source, Table
from keras_resnet.export.compare import classifier, pictures
from keras_resnet.export.report import accuracies, markdown
from keras_resnet.export.run import export
from keras_resnet.preprocessing import Preprocessing

RECIPE = Path(__file__).parents[1] / "recipes" / "export.py"


@pytest.fixture(scope="module")
def network():
    return small(classifier_activation=None)


def test_accuracy_is_of_the_whole_set(network):
    model, card = network
    card = dataclasses.replace(card, preprocessing=Preprocessing(image_size=24, resize=24))
    images = pictures(card, 70)
    run = classifier(model, card)
    best = run(images).argmax(1)
    labels = np.where(np.arange(70) < 7, (best + 1) % 3, best)
    source = Source("mine", "test", card.class_names, Table(images, labels), encoded=False)
    found = accuracies({"right": run, "first": lambda images: np.eye(3)[[0] * len(images)]}, source, card)
    assert found["right"] == pytest.approx(0.9)
    assert found["first"] == pytest.approx((labels == 0).mean())


def test_the_table():
    rows = [{"file": "a", "bytes": 1_500_000, "accuracy": 0.5}, {"file": "b", "bytes": 3_000_000, "p50_1": 2.0}]
    assert markdown(rows).splitlines() == [
        "| file | MB | accuracy | p50 ms, 1 thread |",
        "| --- | --: | --: | --: |",
        "| a | 1.50 | 50.00% |  |",
        "| b | 3.00 |  | 2.00 |",
    ]


def test_what_a_format_needs_is_asked_for_before_anything_is_written(network, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else find(name))
    with pytest.raises(ImportError, match=r"garden\[export\].*Received: formats=\('saved_model', 'tflite'\)"):
        export(*network, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_command(network, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the extra `export` is not installed")
    model, card = network
    save_model(model, tmp_path / "small.keras", card)
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in ("a", "b", "c"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(3):
                picture = tf.io.encode_jpeg(random.integers(0, 256, (30, 40, 3), np.uint8)).numpy()
                (tmp_path / "photos" / split / name / f"{number}.jpg").write_bytes(picture)
    command = [sys.executable, str(RECIPE), "--model=small.keras", "--output=out"]
    data = ["--quantize=float16,int8", "--dataset=./photos"]
    result = subprocess.run([*command, *data], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = {row["file"]: row for row in json.loads((tmp_path / "out" / "report.json").read_text())["files"]}
    assert set(rows) == {"the network", "saved_model/1", "resnet20-float16.tflite", "resnet20-int8.tflite"}
    assert 0 < rows["resnet20-int8.tflite"]["p50_1"] <= rows["resnet20-int8.tflite"]["p99_1"]
    assert rows["resnet20-float16.tflite"]["accuracy"] == rows["the network"]["accuracy"]
    assert (tmp_path / "out" / "report.md").read_text().splitlines()[0] in result.stdout
    for expected in ("saved_model_cli show --dir", "tensorflow/serving", "| resnet20-int8.tflite | "):
        assert expected in result.stdout
    assert zipfile.is_zipfile(tmp_path / "out" / "resnet20-int8.tflite")

    result = subprocess.run([*command, "--quantize=int8"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ValueError: int8 is calibrated on training images")
