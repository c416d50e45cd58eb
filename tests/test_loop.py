"""The loop: interrupted anywhere it goes on to the same end, and it stops with a word where it must."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import kill_resume
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_resnet.training import building, checkpoints
from keras_resnet.training.callbacks import Clock, CSVLog, Diverged, Interrupted
from keras_resnet.training.config import Config
from keras_resnet.training.loop import segments, train
from keras_resnet.weights.readers import read

pytestmark = pytest.mark.lower_house
ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    """The network and the pictures that the script beside this file kills; 12 steps to an epoch."""
    return dataclasses.replace(kill_resume.configuration(tmp_path), steps=20, deterministic=False)


class Crash(Exception):
    pass


def crash():
    raise Crash


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_a_run_that_crashed_ends_as_one_that_did_not(config, tmp_path, monkeypatch):
    whole = train(config, tmp_path / "whole", verbose=0)
    written = set()
    for step, moment, end, last in (
        (8, "on_train_batch_end", crash, 5),
        (16, "on_train_batch_end", crash, 15),
        (20, "on_test_begin", terminate, 19),  # this validation must come again
    ):

        def end_it(self, *args, step=step, end=end, **kwargs):
            if self.step == step:
                end()

        with monkeypatch.context() as patched, pytest.raises((Crash, Interrupted)):
            patched.setattr(Clock, moment, end_it)
            train(config, tmp_path / "crashed", verbose=0)
        assert checkpoints.find(tmp_path / "crashed" / "checkpoints").name == f"step-{last:09}"
        written.add((tmp_path / "crashed" / "config.json").stat().st_mtime_ns)
    assert len(written) == 1  # a configuration that lies there is left alone
    crashed = train(config, tmp_path / "crashed", verbose=0)
    for expected, found in zip(whole.get_weights(), crashed.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    logs = [CSVLog(tmp_path / run / "log.csv", None).rows() for run in ("whole", "crashed")]
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["loss"] == pytest.approx(float(logs[0][-1]["val_loss"]), rel=1e-4)
    assert [row["step"] for row in logs[1]] == ["12", "20"]
    for expected, found in zip(*logs, strict=True):
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name

    other = dataclasses.replace(config, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"Received: learning_rate: 0\.05 -> 0\.5"):
        train(other, tmp_path / "crashed", verbose=0)


def test_a_checkpoint_has_the_average_that_was_measured(config, tmp_path):
    config = dataclasses.replace(config, ema=0.9, settings=(*config.settings, ("drop_path", 0.0)))
    whole = train(config, tmp_path / "run", verbose=0)
    folder = tmp_path / "run" / "checkpoints"
    rows = CSVLog(tmp_path / "run" / "log.csv", None).rows()
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert checkpoints.find(folder, checkpoints.BEST).name == f"step-{int(best['step']):09}"
    kept = {**config.__dict__, "weights": str(checkpoints.network_weights(checkpoints.find(folder))), "load_head": True}
    network = building.build_network(Config(**kept), 10)
    for measured, written in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(measured, written)

    def stop(self, *args, **kwargs):
        if self.step == 8:
            crash()

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Crash):
        patched.setattr(Clock, "on_train_batch_end", stop)
        train(config, tmp_path / "again", verbose=0)
    again = train(config, tmp_path / "again", verbose=0)
    for expected, found in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_start_that_fails_leaves_nothing(config, tmp_path):
    with pytest.raises(ValueError, match="batch_size=500"):
        train(dataclasses.replace(config, batch_size=500), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(config, tmp_path):
    config = dataclasses.replace(config, learning_rate=1e30, schedule="piecewise", warmup=0.0, checkpoint_steps=1)
    with pytest.raises(
        Diverged, match=r"at step \d+, with a learning rate of 1e\+30. The last good checkpoint: .*step"
    ):
        train(config, tmp_path / "run", verbose=0)
    last = checkpoints.find(tmp_path / "run" / "checkpoints")
    with np.load(last / "variables.npz") as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name.startswith("metrics"))
    assert all(np.isfinite(array).all() for array in read(checkpoints.network_weights(last)).values())


@given(total=st.integers(1, 300), per_epoch=st.integers(1, 40), share=st.floats(0, 1, exclude_max=True))
def test_segments_make_each_step_once_and_epochs_at_their_places(total, per_epoch, share):
    step = start = int(share * total)
    for epoch, last, steps in segments(start, total, per_epoch):
        assert step // per_epoch == epoch
        step += steps * (last - epoch)
        assert step == total or step % per_epoch == 0
        assert steps == per_epoch or last == epoch + 1
    assert step == total


def test_a_log_is_cut_where_the_run_goes_on(tmp_path):
    class Clock:
        step = 0

    log = CSVLog(tmp_path / "log.csv", Clock)
    for epoch in range(3):
        Clock.step += 10
        log.on_epoch_end(epoch, {"loss": 1 / 3} | ({"val_loss": 2.0} if epoch else {}))
    log.cut(20)
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "epoch,step,loss,val_loss",
        "1,10,0.3333333,",
        "2,20,0.3333333,2",
    ]


def test_signals_end_the_recipe_with_a_checkpoint(config, tmp_path):
    backend = keras.backend.backend()
    command = [sys.executable, str(ROOT / "recipes" / "cifar10.py"), f"--dataset={tmp_path}", "--model=ResNet20"]
    command += [f"--run_dir={tmp_path / 'run'}", f"--set=settings={config.settings!r}", "--batch_size=8"]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}

    def ended_by(signum, steps):
        arguments = [*command, f"--steps={steps}", "--set=checkpoint_steps=5"]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        before = checkpoints.find(tmp_path / "run" / "checkpoints")
        until = time.monotonic() + 120
        while checkpoints.find(tmp_path / "run" / "checkpoints") == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signum)
        output, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        assert f"Stopped by {signum.name}. Checkpoint: " in output
        return process.returncode

    assert ended_by(signal.SIGTERM, 100_000) == 143
    assert ended_by(signal.SIGINT, 100_000) == 130
    step = int(checkpoints.find(tmp_path / "run" / "checkpoints").name.removeprefix("step-"))
    assert step > 5
