"""What `train` adds to bare training steps: callbacks, log, checkpoints, the way of the images to the device.

What is looked for is smaller than what a shared machine changes from one minute to the next. So the bare steps are made
in the midst of the epoch that they are compared with, in turns of some seconds: longer than the images lie in wait that
the input makes ahead, and would make in the bare steps' time.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

_FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def measurements(quick: bool) -> list[tuple]:
    """The rows of `recipes/benchmark.py loop`: epochs of ResNet-20 on pictures of noise, against its bare steps."""
    import keras
    import numpy as np

    from keras_resnet.training.building import compiled
    from keras_resnet.training.config import RECIPES
    from keras_resnet.training.loop import fit, prepare

    # As many steps as CIFAR-10 has; of a test set, which is no part of the loop, one batch.
    folder, steps, turn = Path(tempfile.mkdtemp(prefix="keras_resnet-loop-")), 10 if quick else 390, 5 if quick else 65
    config = dataclasses.replace(RECIPES["cifar-paper"], dataset=str(folder), dtype="mixed_bfloat16")
    random = np.random.default_rng(0)
    for name in _FILES:
        rows = random.integers(0, 256, (config.batch_size * (steps // 5 if "data" in name else 1), 3073), np.uint8)
        rows[:, 0] %= 10
        (folder / name).write_bytes(rows.tobytes())
    run = prepare(config, folder / "run")
    bare = compiled(run.network, None, config, run.devices)
    draws, labels = next(iter(run.inputs.training(0, 0, 1)))
    images = keras.ops.convert_to_tensor(run.inputs.front(draws))
    seconds = {}

    class BareSteps(keras.callbacks.Callback):
        """Makes as many bare steps before each `turn` steps of the loop, and keeps their time."""

        def on_train_batch_begin(self, batch, logs=None):
            if batch % turn == 0:
                start = time.perf_counter()
                for _ in range(turn):
                    bare.train_on_batch(images, labels)
                seconds["bare"] += time.perf_counter() - start

    run.callbacks.append(BareSteps())

    def of_bare_steps() -> float:
        seconds["bare"], start = 0.0, time.perf_counter()
        fit(run, run.clock.step + steps, verbose=0)
        seconds["loop"] = time.perf_counter() - start - seconds["bare"]
        return config.batch_size * steps / seconds["bare"]

    def of_the_same_epoch() -> float:
        return config.batch_size * steps / seconds["loop"]

    title = f"an epoch of {steps} steps, ResNet-20, batch 128, mixed_bfloat16"
    contenders = {"its bare steps, in turns with it": of_bare_steps, "all there is to it": of_the_same_epoch}
    return [(title, "images/s", contenders)]
