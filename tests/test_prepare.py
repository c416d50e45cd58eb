"""Packing: sizes, bytes, names and means as they should be, also after it was killed; a contact sheet of the result."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data import augmentation, pipeline, prepare, preview, records
from keras_resnet.data.caching import cached
from keras_resnet.data.sources import open_source

RECIPES = Path(__file__).parents[1] / "recipes"
CLASSES = ("a cat", "dog", "emu")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Thirty pictures of three classes, large and small, and a bad one."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(30):
        size = [(40, 60), (70, 50), (120, 90)][number % 3]
        pixels = tf.image.resize(random.uniform(0, 255, (5, 5, 3)), size)
        path = folder / CLASSES[number // 10] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(tf.cast(pixels, tf.uint8)).numpy())
    (folder / "dog" / "broken.jpg").write_bytes(b"no image")
    return folder


def packed(folder):
    return {label.numpy(): image for image, label in open_source(folder, "train").dataset()}


def recipe(name, *arguments):
    return [sys.executable, str(RECIPES / f"{name}.py"), *map(str, arguments)]


def test_a_killed_run_goes_on(photographs, tmp_path, monkeypatch):
    command = recipe("prepare", f"--dataset={photographs}", f"--output={tmp_path}", "--splits=train", "--threads=1")
    command += ["--shorter_side=50", "--shards=31", "--mean_size=16"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("train-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("train-*")}
    assert 0 < len(before) < 31
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "train: 30 images of 3 classes" in result.stdout
    assert "broken.jpg" in result.stdout
    assert "1 images left out" in result.stdout
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())

    with monkeypatch.context() as patch:
        patch.delattr(records, "count_records")  # how much there is need not be counted
        source = open_source(tmp_path, "train")
    assert source.class_names == CLASSES
    originals = [pair for pair in open_source(photographs, "train").dataset() if pair[0] != b"no image"]
    sizes = set()
    for (image, label), (original, true) in zip(source.dataset(), originals, strict=True):
        assert label == true
        pixels, before = (tf.io.decode_jpeg(encoded).numpy() for encoded in (image, original))
        sizes.add(pixels.shape)
        if min(before.shape[:2]) <= 50:
            assert image == original
        else:
            whole = tf.image.resize(before, pixels.shape[:2], antialias=True)
            assert np.abs(pixels - whole).mean() < 3
    assert sizes == {(40, 60, 3), (70, 50, 3), (66, 50, 3)}

    mean = np.load(tmp_path / "mean-train.npy")
    stack = (augmentation.Resize(19, antialias=True), augmentation.CenterCrop(16))
    expected = np.mean([augmentation.apply(stack, image) for image, _ in originals], axis=0)
    np.testing.assert_allclose(mean, expected, atol=0.01)
    assert augmentation.apply((*stack, augmentation.SubtractMean(mean)), originals[0][0]).shape == (16, 16, 3)


def test_a_cache_on_disk_and_other_settings(photographs, tmp_path):
    source, rest = (open_source(photographs, f"train[{part}]") for part in (":12", "12:"))
    kept = cached(source, str(tmp_path))
    good = [pair for pair in source.dataset().as_numpy_iterator() if pair[0] != b"no image"]
    assert list(kept.dataset().as_numpy_iterator()) == good
    assert kept.class_names == source.class_names
    assert cached(source, str(tmp_path)).num_examples == len(good)
    with pytest.raises(ValueError, match="other settings"):
        prepare.pack(source, tmp_path / source.split, shorter_side=20)
    with pytest.raises(ValueError, match=r"1 of 19 images cannot be decoded.*Received: .*broken\.jpg"):
        pipeline.evaluation(rest, (augmentation.Resize(19), augmentation.CenterCrop(16)), 4, cache=str(tmp_path))


def test_a_contact_sheet(photographs, tmp_path):
    pictures = [path.read_bytes() for path in sorted((photographs / "emu").glob("*.jpg"))[:2]]
    sheet = preview.contact_sheet(pictures, augmentation.paper_imagenet(64, 70, 90), columns=3)
    assert sheet.shape == (2 * 132 + 4, 4 * 132 + 4, 3)
    key = augmentation.example_keys(0, 1, tf.range(2))[1]
    drawn = augmentation.apply(augmentation.for_device(augmentation.paper_imagenet(64, 70, 90))[0], pictures[1], key)
    np.testing.assert_array_equal(sheet[136:264:2, 268:396:2], drawn)
    mixed = preview.contact_sheet(pictures, augmentation.modern(64), columns=1)
    assert mixed.shape == (268, 268, 3)
    output = tmp_path / "sheet.png"
    command = recipe("preview", photographs / "emu", f"--output={output}", "--rows=2", "--columns=2", "--stack=cifar")
    subprocess.run(command, capture_output=True, check=True)
    assert tf.io.decode_png(output.read_bytes()).shape == (268, 3 * 132 + 4, 3)
