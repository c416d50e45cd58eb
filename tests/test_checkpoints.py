"""Checkpoints: whole or not there, and all that a run is made of."""

import errno
import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.training import checkpoints

pytestmark = pytest.mark.lower_house


@pytest.fixture
def network():
    return keras_resnet.ResNet20(depths=(1, 1, 1), widths=(16, 16, 16))


def variables(seed):
    return {"optimizer": [keras.Variable(np.random.default_rng(seed).normal(size=(3, 2)).astype("float32"))]}


def test_what_is_restored_is_what_was_saved(network, tmp_path):
    folder = checkpoints.save(tmp_path, 7, network, variables(1), {"callbacks": {"Rate": {"step": 7}}})
    assert checkpoints.find(tmp_path) == folder
    other, values = keras_resnet.ResNet20(depths=(1, 1, 1), widths=(16, 16, 16)), variables(2)
    checkpoints.restore(folder, other, values)
    assert checkpoints.read_state(folder) == {"step": 7, "callbacks": {"Rate": {"step": 7}}}
    for own, restored in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(own, restored)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(values["optimizer"][0]), keras.ops.convert_to_numpy(variables(1)["optimizer"][0])
    )
    with pytest.raises(ValueError, match="of another run: optimizer/00000, sgd/00000 differ"):
        checkpoints.restore(folder, other, {"sgd": values["optimizer"]})
    loaded = keras_resnet.ResNet20(
        depths=(1, 1, 1), widths=(16, 16, 16), weights=str(checkpoints.network_weights(folder))
    )
    np.testing.assert_array_equal(loaded.get_weights()[0], network.get_weights()[0])


def test_the_last_two_and_the_best_are_kept(network, tmp_path):
    assert checkpoints.find(tmp_path) is None
    for step in range(1, 6):
        checkpoints.save(tmp_path, step, network, {}, {}, best=step == 2)
    assert sorted(folder.name for folder in tmp_path.iterdir() if folder.is_dir()) == [
        "step-000000002",
        "step-000000004",
        "step-000000005",
    ]
    assert checkpoints.find(tmp_path).name == "step-000000005"
    assert checkpoints.find(tmp_path, checkpoints.BEST).name == "step-000000002"


def test_a_kill_between_the_pointers_leaves_the_best(network, tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, network, {}, {}, best=True)
    replace, written = checkpoints.replace_text, []

    def die_at_the_second(file, text):
        if written:
            raise KeyboardInterrupt
        written.append(file.name)
        replace(file, text)

    monkeypatch.setattr(checkpoints, "replace_text", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 2, network, {}, {}, best=True)
    assert checkpoints.find(tmp_path).name == "step-000000001"
    assert checkpoints.find(tmp_path, checkpoints.BEST).name == "step-000000002"  # of which the run will know again
    monkeypatch.undo()
    for step in (2, 3, 4):
        checkpoints.save(tmp_path, step, network, {}, {}, best=step == 2)
    assert checkpoints.find(tmp_path, checkpoints.BEST).name == "step-000000002"


def test_a_full_disk_leaves_the_checkpoint_before_it(network, tmp_path, monkeypatch):
    folder = checkpoints.save(tmp_path, 1, network, variables(1), {})
    before = {file: file.read_bytes() for file in folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"step 2 could not be written; the one before it is whole.*No space left"):
        checkpoints.save(tmp_path, 2, network, variables(2), {})
    assert checkpoints.find(tmp_path) == folder
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert not [*tmp_path.glob("*.part")]
    assert json.loads((folder / "state.json").read_text()) == {"step": 1}

    monkeypatch.setattr(checkpoints, "_sync", full)
    (tmp_path / "config.json").write_text("the old one")
    with pytest.raises(OSError, match=r"config.json could not be written; what was there is whole: .*No space left"):
        checkpoints.replace_text(tmp_path / "config.json", "the new one")
    assert (tmp_path / "config.json").read_text() == "the old one"
