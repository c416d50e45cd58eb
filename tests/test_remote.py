"""Runs whose folder is elsewhere: TensorFlow's in-memory file system stands for a bucket."""

import pytest
import tensorflow as tf

from keras_resnet.training.remote import mirrored, push


def replace(source, target, overwrite):
    """The in-memory file system appends where others replace."""
    if tf.io.gfile.exists(target):
        tf.io.gfile.remove(target)
    COPY(source, target, overwrite)


COPY = tf.io.gfile.copy
FILES = ["network.safetensors", "state.json"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow.io.gfile.copy", replace)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def checkpoint(folder, step):
    place = folder / "checkpoints" / f"step-{step:09}"
    place.mkdir(parents=True)
    for name in FILES:
        (place / name).write_text(f"{name} of {step}")
    (folder / "checkpoints" / "latest").write_text(place.name)
    (folder / "log.csv").write_text(f"step\n{step}\n")


def names(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_another_machine_finds_the_run_as_it_was_copied_last(home, monkeypatch):
    bucket = "ram://bucket/run"
    folder, publish = mirrored(bucket)
    for step in (1, 2, 3):
        checkpoint(folder, step)
        publish()
    for file in (folder / "checkpoints" / "step-000000001").iterdir():
        file.unlink()
    (folder / "checkpoints" / "step-000000001").rmdir()
    publish()
    assert {name.rstrip("/") for name in tf.io.gfile.listdir(f"{bucket}/checkpoints")} == {
        "latest",
        "step-000000002",
        "step-000000003",
    }
    checkpoint(folder, 4)  # written and not copied: that machine is gone
    monkeypatch.setenv("HOME", str(home / "another"))
    other, _ = mirrored(bucket)
    assert other != folder
    assert names(other) == ["checkpoints/latest", *(f"checkpoints/step-000000003/{name}" for name in FILES), "log.csv"]
    assert (other / "log.csv").read_text() == "step\n3\n"
    tf.io.gfile.rmtree(bucket)  # somebody wants to begin anew
    mirrored(bucket)
    assert names(other) == []


@pytest.mark.parametrize("last", ["state.json", "network.safetensors", "latest"])  # files come in any order
def test_a_checkpoint_that_is_half_copied_is_not_pointed_to(home, monkeypatch, last):
    bucket = f"ram://bucket/half/{last}"
    folder, publish = mirrored(bucket)
    checkpoint(folder, 1)
    publish()
    checkpoint(folder, 2)

    def broken(source, target, overwrite):
        if source.endswith(last):
            raise OSError("gone")
        replace(source, target, overwrite)

    monkeypatch.setattr("tensorflow.io.gfile.copy", broken)
    with pytest.raises(OSError, match="gone"):
        push(folder, bucket)
    monkeypatch.setattr("tensorflow.io.gfile.copy", replace)
    again, publish = mirrored(bucket)
    assert "checkpoints/step-000000001/network.safetensors" in names(again)
    assert (again / "checkpoints" / "latest").read_text() == "step-000000001"
    checkpoint(again, 2)  # the run comes to it again, and what lies there is not taken for it
    publish()
    mirrored(bucket)
    assert names(again / "checkpoints") == ["latest", *(f"step-000000002/{name}" for name in FILES)]
    assert (again / "checkpoints" / "latest").read_text() == "step-000000002"


def test_a_local_folder_is_itself(tmp_path):
    folder, publish = mirrored(tmp_path / "run")
    assert folder == tmp_path / "run"
    publish()
    assert not folder.exists()
