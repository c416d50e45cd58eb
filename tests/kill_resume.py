"""Kills a training run, again and again, and holds what comes out against a run that nobody disturbed, bit by bit.

  python tests/kill_resume.py --kills=20 --writes=40

`--kills`: SIGKILL at so many random moments of one run. `--writes`: one run for each of so many places between the
writes, the renames and the deletions of its first checkpoints, killed right there and begun again. Each attempt is a
fork of this process, which has imported everything and run nothing.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from keras_resnet.training import checkpoints
from keras_resnet.training.config import Config
from keras_resnet.training.loop import train

STEPS = 65  # the last epoch is a part of one, of 12, and ends where a checkpoint is due


def configuration(folder: Path) -> Config:
    """A network with dropped paths, so that its seed generators matter, on sixteen pictures' worth of noise."""
    rng = np.random.default_rng(0)
    for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
        rows = rng.integers(0, 256, (20, 1 + 3072), np.uint8)
        rows[:, 0] %= 10
        (folder / name).write_bytes(rows.tobytes())
    settings = (("depths", (1, 1, 1)), ("drop_path", 0.5), ("widths", (16, 16, 16)))
    return Config(
        model="ResNet20",
        settings=settings,
        dataset=str(folder),
        test_split="test",
        augmentation="cifar",
        image_size=32,
        low=32,
        high=32,
        batch_size=8,
        steps=STEPS,
        schedule="one_cycle",
        learning_rate=0.05,
        warmup=0.3,
        deterministic=True,
        checkpoint_steps=5,
    )


def attempt(config: Config, run_dir: Path, kill_after: float | None = None, kill_at_call: int | None = None) -> int:
    """Trains in a fork; returns its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if kill_at_call:
                _die_at(kill_at_call)
            train(config, run_dir, verbose=0)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(run_dir: Path) -> dict[str, bytes]:
    """Every number that a finished run leaves."""
    last = checkpoints.find(run_dir / "checkpoints")
    assert last is not None and last.name == f"step-{STEPS:09}", f"The last checkpoint is {last}."
    best = checkpoints.find(run_dir / "checkpoints", checkpoints.BEST)
    arrays = np.load(last / "variables.npz")
    return {
        "best": best.name.encode(),
        "weights": checkpoints.network_weights(last).read_bytes(),
        "log": (run_dir / "log.csv").read_bytes(),
        "state": (last / "state.json").read_bytes(),
        **{name: arrays[name].tobytes() for name in arrays.files},
    }


def _die_at(call: int) -> None:
    """Replaces what writes, renames and deletes by what does so until the given call."""
    count = 0

    def dying(function):
        def wrapper(*args, **kwargs):
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    os.fsync, os.replace, os.rename = dying(os.fsync), dying(os.replace), dying(os.rename)
    shutil.rmtree = dying(shutil.rmtree)


def main() -> None:
    """Runs, kills, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--writes", type=int, default=40)
    parser.add_argument("--first_write", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = configuration(folder)
        start = time.monotonic()
        assert attempt(config, folder / "whole") == 0, "The undisturbed run failed."
        duration = time.monotonic() - start
        expected = outcome(folder / "whole")

        moments, killed, status = random.Random(arguments.seed), 0, -signal.SIGKILL
        while killed < arguments.kills and status != 0:
            status = attempt(config, folder / "killed", moments.uniform(0.3, 1.0) * duration)
            killed += status == -signal.SIGKILL
            if status == 0:  # it was quicker: once more
                _compare(expected, outcome(folder / "killed"), "killed at random")
                shutil.rmtree(folder / "killed")
                status = -signal.SIGKILL
        assert attempt(config, folder / "killed") == 0
        _compare(expected, outcome(folder / "killed"), f"killed {killed} times at random")

        for call in range(arguments.first_write, arguments.first_write + arguments.writes):
            run_dir = folder / f"write-{call}"
            assert attempt(config, run_dir, kill_at_call=call) == -signal.SIGKILL, f"There are no {call} writes."
            assert attempt(config, run_dir) == 0
            _compare(expected, outcome(run_dir), f"killed at write {call}")
            shutil.rmtree(run_dir)
        print(f"{killed} kills at random, {arguments.writes} between writes: bit-equal.")


def _compare(expected: dict[str, bytes], found: dict[str, bytes], what: str) -> None:
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    if differing:
        sys.exit(f"Not equal after a run {what}: {sorted(differing)[:5]}")


if __name__ == "__main__":
    main()
