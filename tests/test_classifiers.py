"""Networks in every form are asked in one way, and say what they saw in pictures of every kind."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.cards import Card, save_model
from keras_resnet.classifiers import classify_image, fingerprint, of_model, open_classifier
from keras_resnet.preprocessing import Preprocessing

RECIPES = Path(__file__).parents[1] / "recipes"
CARD = Card(
    network="tiny", preprocessing=Preprocessing(image_size=16, resize=20), class_names=("Ameise", "蜂", "vache")
)
ROW = keras_resnet.Architecture(stem="cifar", depths=(1,), widths=(8,))


@pytest.fixture
def model():
    return keras_resnet.build(ROW, classes=3, input_shape=(16, 16, 3))


def test_one_image_has_the_probabilities_of_a_batch(model):
    classifier = of_model(model, CARD)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), "uint8")
    scores = classify_image(classifier, tf.io.encode_png(pixels).numpy())
    images = (pixels[None, 2:18, 2:18] - np.array(CARD.preprocessing.mean)) / np.array(CARD.preprocessing.std)
    np.testing.assert_allclose(scores, model.predict(images.astype("float32"), verbose=0)[0], atol=1e-5)
    for broken in (b"", b"no picture", tf.io.encode_png(pixels).numpy()[:100]):
        with pytest.raises(ValueError, match="cannot be decoded"):
            classify_image(classifier, broken)


def test_a_fingerprint_is_the_weights_own(model, tmp_path):
    save_model(model, tmp_path / "tiny.keras", CARD)
    first = fingerprint(of_model(model, CARD))
    assert fingerprint(open_classifier(str(tmp_path / "tiny.keras"))) == first
    model.weights[0].assign_add(keras.ops.ones_like(model.weights[0]))
    assert fingerprint(of_model(model, CARD)) != first


def test_what_an_exported_network_has_in_it_is_not_given_twice(tmp_path):
    with pytest.raises(ValueError, match=r"has its weights and settings.*zero_channels"):
        open_classifier(str(tmp_path), zero_channels="around")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_classifier("nowhere.tflite")


def recipe(*arguments):
    command = [sys.executable, RECIPES / "predict.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, encoding="utf-8")


def test_the_recipe_names_pictures_and_the_broken_one(model, tmp_path):
    save_model(model, tmp_path / "tiny.keras", CARD)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 24, 3), "uint8")
    folder = tmp_path / "pictures" / "deeper"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    (folder / "b.PNG").write_bytes(tf.io.encode_png(pixels[..., :1]).numpy())
    (folder / "c.jpeg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "d.txt").write_bytes(b"no picture")
    maps = tmp_path / "maps"
    run = recipe(tmp_path / "pictures", f"--model={tmp_path / 'tiny.keras'}", "--json", f"--explain={maps}")
    assert run.returncode == 1
    assert "c.jpeg: This image cannot be decoded" in run.stderr
    assert "Traceback" not in run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "b.PNG", "c.jpeg"]
    assert "error" in rows[2]
    for row in rows[:2]:
        scores = [prediction["score"] for prediction in row["predictions"]]
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        assert scores == sorted(scores, reverse=True)
        assert {prediction["name"] for prediction in row["predictions"]} == set(CARD.class_names)
    assert sorted(path.name for path in maps.iterdir()) == ["0000-a.png", "0001-b.png"]
