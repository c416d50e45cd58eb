"""Two real processes over TF_CONFIG are one device with the same global batch; a kill costs nothing but time."""

import sys

import keras
import numpy as np
import two_workers

from keras_resnet.training.devices import Devices
from keras_resnet.training.local_workers import launch_local_workers


def test_two_workers_one_of_which_is_killed(tmp_path, capfd):
    folder = tmp_path / "two"
    folder.mkdir()
    command = [sys.executable, two_workers.__file__, str(folder)]

    assert launch_local_workers(2, [*command, "5"]) == 128 + 9
    printed, error = capfd.readouterr()
    assert "multi_worker: 2 replicas on CPU of 2 workers, batch 8 (4 a replica), float32, batch norm over" in printed
    assert "worker 0 starts at step 0" in printed
    assert "worker 1 starts" not in printed
    assert "RuntimeError: Another worker has ended" in error
    assert "worker 1: worker 1 starts at step 0" in error

    assert launch_local_workers(2, command) == 0, capfd.readouterr().err
    assert "worker 0 starts at step 5" in capfd.readouterr().out
    assert [path.name for path in folder.glob("written-by-*")] == ["written-by-0"]  # the chief alone
    seen = [np.load(folder / f"seen-by-{worker}.npy") for worker in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), np.arange(24).reshape(3, 8))  # each example once

    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        (tmp_path / "one").mkdir()
        two_workers.train(Devices(), tmp_path / "one")
    finally:
        keras.config.set_floatx(floatx)
    one = np.load(tmp_path / "one" / "end-0.npz")
    for worker in (0, 1):
        two = np.load(folder / f"end-{worker}.npz")
        assert two["flags"].tolist() == [True, True, False]
        for name in set(one.files) - {"flags"}:
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-12)
