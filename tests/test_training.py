"""A whole training run on a folder of pictures, and what a configuration refuses."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import kill_resume
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.cards import open_model
from keras_resnet.data import augmentation
from keras_resnet.data.sources import open_source
from keras_resnet.training import checkpoints
from keras_resnet.training.config import RECIPES, Config
from keras_resnet.training.finetuning import finetune
from keras_resnet.training.loop import train
from keras_resnet.training.strategies import describe, get_strategy


@pytest.fixture
def photos(tmp_path):
    """Two classes that differ in the direction of their stripes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 7)):
        for name, axis in (("lying", 0), ("standing", 1)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                wave = 127 + 100 * np.sin(np.arange(40) * 1.3 + random.uniform(0, 6))
                pixels = np.repeat(np.broadcast_to(wave if axis else wave[:, None], (40, 40))[..., None], 3, axis=2)
                jpeg = tf.io.encode_jpeg((pixels + random.normal(0, 5, pixels.shape)).clip(0, 255).astype("uint8"))
                (folder / f"{i}.jpg").write_bytes(jpeg.numpy())
    return tmp_path / "photos"


@pytest.fixture
def config(photos):
    return Config(
        model="ResNet20",
        settings=(("depths", (1, 1, 1)),),
        dataset=str(photos),
        image_size=32,
        low=34,
        high=40,
        batch_size=8,
        epochs=3,
        schedule="one_cycle",
        learning_rate=0.05,
        warmup=1 / 3,
        strategy="mirrored",
    )


def test_a_run_leaves_what_there_is_to_know_and_is_fine_tuned(config, photos, tmp_path):
    run = tmp_path / "run"
    model = train(dataclasses.replace(config, ema=0.5, precise_statistics=6), run, verbose=0)
    assert json.loads((run / "config.json").read_text())["batch_size"] == 8
    with (run / "log.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["step"] for row in rows] == ["6", "12", "18"]
    assert float(rows[-1]["learning_rate"]) < 0.02
    result = json.loads((run / "result.json").read_text())
    assert result["examples"] == 14
    assert result["accuracy"] >= 12 / 14
    again, card = open_model(str(run / "model.keras"))
    images, labels = zip(*open_source(photos, "val").dataset().as_numpy_iterator())
    stack = augmentation.evaluation(card.preprocessing)
    answers = again.predict(np.stack([augmentation.apply(stack, image) for image in images]), verbose=0)
    loss = -np.mean(np.log(answers[np.arange(14), labels]))
    assert result["loss"] == pytest.approx(loss, rel=1e-3)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = tf.data.TFRecordDataset([str(file) for file in (run / "events").iterdir()])
    tags = {value.tag for event in events for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value}
    assert tags >= {"training/loss", "validation/accuracy"}
    assert card.class_names == ("lying", "standing")
    assert card.preprocessing.resize == 34
    for own, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert json.loads((checkpoints.find(run / "checkpoints") / "state.json").read_text())["card"]["class_names"]

    for split in photos.iterdir():  # another task, for which the network has learnt nearly all
        for name, other in (("lying", "horizontal"), ("standing", "vertical")):
            (split / name).rename(split / other)
    frozen = dict(zip((weight.path for weight in again.weights), again.get_weights()))
    tuned = dataclasses.replace(config, weights=str(run / "model.keras"), learning_rate=1e-3, epochs=1)
    finetune(tuned, tmp_path / "tuned", head_epochs=2, head_learning_rate=0.1, verbose=0)
    assert Config.from_json((tmp_path / "tuned" / "config.json").read_text()).preprocessing == "paper"
    head, _ = open_model(str(tmp_path / "tuned" / "head" / "model.keras"))
    moved = [w.path for w in head.weights if not np.array_equal(frozen[w.path], keras.ops.convert_to_numpy(w))]
    assert moved == ["predictions/kernel", "predictions/bias"]
    _, card = open_model(str(tmp_path / "tuned" / "model.keras"))
    assert card.class_names == ("horizontal", "vertical")
    result = (tmp_path / "tuned" / "result.json").read_text()
    (run / "model.keras").unlink()  # the end, once more, when what it began with is gone and it lies elsewhere
    shutil.rmtree(tmp_path / "tuned" / "head")
    (tmp_path / "tuned" / "result.json").unlink()
    (tmp_path / "tuned").rename(tmp_path / "moved")
    finetune(tuned, tmp_path / "moved", head_epochs=2, head_learning_rate=0.1, verbose=0)
    assert (tmp_path / "moved" / "result.json").read_text() == result
    (tmp_path / "moved").rename(tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned" / "result.json").read_text())["accuracy"] >= 12 / 14


def test_the_recipe_trains_on_a_folder(photos, tmp_path):
    recipe = Path(__file__).parents[1] / "recipes" / "imagenet.py"
    flags = ["--model=ResNet20", "--image_size=32", "--batch_size=8", "--epochs=1", "--strategy=mirrored"]
    flags.append("--set=learning_rate=None")
    command = [sys.executable, str(recipe), f"--dataset={photos}", f"--run_dir={tmp_path / 'run'}", *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "strategy mirrored: 1 replica on CPU, batch 8 (8 a replica), float32" in result.stdout
    assert "image_size = 32" in result.stdout
    assert "learning_rate = 0.003125\n" in result.stdout  # 0.1 * 8 / 256
    assert (tmp_path / "run" / "model.keras").exists()
    assert f"python recipes/evaluate.py --model={tmp_path / 'run'}/model.keras --dataset={photos}" in result.stdout


def recipe(*flags, **environment):
    """The first command of the README."""
    command = [sys.executable, str(Path(__file__).parents[1] / "recipes" / "imagenet.py"), *flags]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_where_imagenet_is_not_there(tmp_path):
    """It trains on the demo set; but not in place of data that is said to be there, nor each worker as it likes."""
    here = {"TFDS_DATA_DIR": str(tmp_path / "data"), "TF_CONFIG": "{}"}
    result = recipe("--strategy=mirrored", "--steps=2", "--image_size=32", f"--run_dir={tmp_path / 'run'}", **here)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "\nImageNet was not found: " in "\n" + result.stdout
    assert "Trains on 2,000 images (train), tests on 500 (test)." in result.stdout
    assert f"--model={tmp_path / 'run'}/model.keras --dataset=demo" in result.stdout
    for flags in ([f"--data_dir={tmp_path / 'typo'}", "--strategy=mirrored"], ["--strategy=multi_worker"]):
        result = recipe(*flags, f"--run_dir={tmp_path / 'other'}", **here)
        assert (result.returncode, result.stdout) == (1, "")
        assert "imagenet2012 is not prepared" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
def test_the_main_job_learns_the_demo_set(tmp_path):
    here = {"TFDS_DATA_DIR": str(tmp_path / "data")}
    result = recipe("--strategy=mirrored", f"--run_dir={tmp_path / 'run'}", **here)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["accuracy"] >= 0.85


@pytest.mark.slow
def test_every_augmentation_can_be_had_to_the_bit(photos, tmp_path):
    """In processes of their own: what makes TensorFlow deterministic cannot be undone."""
    small = ["--model=ResNet20", "--image_size=32", "--batch_size=8", "--steps=4", "--deterministic"]
    ends = []
    for number in range(2):
        run = tmp_path / f"run{number}"
        result = recipe("--recipe=a3", f"--dataset={photos}", f"--run_dir={run}", *small)
        assert result.returncode == 0, result.stderr[-3000:]
        ends.append(checkpoints.network_weights(checkpoints.find(run / "checkpoints")).read_bytes())
    assert ends[0] == ends[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_steps(name, photos, tmp_path):
    """With all of its settings, but few and small images and a shallow network."""
    config = RECIPES[name]
    small = {"image_size": 32, "low": None, "high": None, "batch_size": 8, "steps": 9, "test_split": "test"}
    shallow = (*config.settings, ("depths", (1,)), ("widths", (16,)))
    data = kill_resume.configuration(tmp_path).dataset if config.augmentation == "cifar" else str(photos)
    train(dataclasses.replace(config, **small, settings=shallow, dataset=data), tmp_path / "run", verbose=0)
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert rows[-1]["step"] == "9"
    assert all(np.isfinite(float(row["loss"])) for row in rows)


def test_recipes_are_the_papers():
    paper = RECIPES["paper"]
    assert paper.shorter_sides == (256, 480)
    assert Config(image_size=32).shorter_sides == (37, 69)
    assert paper.total_steps(1_281_167) == 600_000
    rate = paper.rate(600_000)
    assert [rate(step) for step in (0, 149_999, 150_000, 450_000)] == [0.1, 0.1, 0.01, 0.1 / 1000]
    rate = RECIPES["cifar-paper"].rate(64_000)
    assert [rate(step) for step in (0, 31_999, 32_000, 47_999, 48_000)] == [0.1, 0.1, 0.01, 0.01, 0.1 / 100]
    assert dataclasses.replace(RECIPES["cifar-paper"], steps=None, epochs=2).total_steps(50_000) == 780
    goyal = RECIPES["goyal90"]
    rate = goyal.rate(goyal.total_steps(1_281_167))
    assert [rate(step) for step in (0, 5 * 156, 30 * 156 - 1, 30 * 156, 80 * 156)] == pytest.approx(
        [0.1, 3.2, 3.2, 0.32, 0.0032]
    )
    assert dataclasses.replace(goyal, batch_size=1024).rate(100)(10) == 0.4
    assert dataclasses.replace(goyal, batch_size=1024, learning_rate=1.0).rate(100)(10) == 1.0
    assert dataclasses.replace(goyal, batch_size=64).rate(100)(0) == 0.025  # a small batch needs no warming up
    warm = Config(schedule="cosine", warmup=0.1).rate(1000)
    assert warm(0) == 0
    assert warm(50) == pytest.approx(warm(100) / 2)
    assert warm(1000) == pytest.approx(0)


def test_a_configuration_survives_json():
    for config in (*RECIPES.values(), Config(settings=[["depths", [1, 1]]], boundaries=[0.5])):
        assert Config.from_json(config.to_json()) == config
        assert not Config.from_json(config.to_json()).differences(config)
    assert RECIPES["demo"].differences(dataclasses.replace(RECIPES["demo"], epochs=5, data_dir="x")) == [
        "epochs: 4 -> 5"
    ]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: Config(schedule="cosin"), "'cosine'"),
        (lambda: Config(image_size=300, low=256), "image_size=300"),
        (lambda: Config(boundaries=(0.5, 0.25)), "0.25"),
        (lambda: Config(warmup=5), "`warmup` is a share"),
        (lambda: Config(steps=1e5), r"`steps` must be int \| None. Received: 100000.0"),
        (lambda: Config(checkpoint_steps=0), "at least 1. Received: 0"),
        (lambda: Config(ema=1.0), "at least 0 and less than 1. Received: 1.0"),
        (lambda: Config(nesterov=1), "`nesterov` must be bool"),
        (lambda: Config(dtype="flaot32"), "'float32'"),
        (lambda: Config(epochs=0), "`epochs` or `steps`"),
        (lambda: Config(warmup_until_error=0.8), r"above 0, .* Received: warmup_rate=0.0"),
        (lambda: Config(warmup_until_error=0.8, warmup_rate=0.01, schedule="plateau"), "Received: .*'plateau'"),
        (lambda: Config(batch_size=64).steps_per_epoch(10), "batch_size=64"),
        (lambda: get_strategy("miror"), "'mirrored'"),
        (lambda: finetune(Config(weights="a", strategy="multi_worker"), "run", 1, 0.1), "Received: .*'multi_worker'"),
    ],
)
def test_bad_settings_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_a_strategy_says_what_it_has():
    strategy = get_strategy("one_device")
    assert describe(strategy, "one_device", 32, "float32") == (
        "strategy one_device: 1 replica on CPU, batch 32 (32 a replica), float32"
    )


def test_a_network_of_the_demo_set_is_fine_tuned_on_photographs(config, tmp_path):
    photographs = Path(__file__).parents[2] / "shared" / "data" / "photos"
    if not photographs.is_dir():
        pytest.skip(f"there are no photographs in {photographs}")
    demo = dataclasses.replace(
        config, dataset="demo", data_dir=str(tmp_path / "data"), test_split="test[:64]", batch_size=16, epochs=0.1
    )
    train(demo, tmp_path / "demo", verbose=0)
    tuned = dataclasses.replace(
        config,
        dataset=str(photographs),
        test_split="val",
        weights=str(tmp_path / "demo" / "model.keras"),
        batch_size=16,
        epochs=0.2,
        learning_rate=0.01,
    )
    finetune(tuned, tmp_path / "photos", head_epochs=0.2, head_learning_rate=0.1, verbose=0)
    model, card = open_model(str(tmp_path / "photos" / "model.keras"))
    assert card.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert model.output_shape == (None, 5)
    assert json.loads((tmp_path / "photos" / "result.json").read_text())["examples"] == 100
