"""What `train` adds to bare training steps: callbacks, log, checkpoints, the way of the images to the device.

In seconds of all cores that the process takes, not of the clock: what is looked for is smaller than what the other work
of a shared machine changes from one round to the next.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

_FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def measurements(quick: bool) -> list[tuple]:
    """The rows of `recipes/benchmark.py loop`: an epoch of ResNet-20 on pictures of noise, against its bare steps."""
    import keras
    import numpy as np

    from keras_resnet.training.building import compiled
    from keras_resnet.training.config import RECIPES
    from keras_resnet.training.loop import fit, prepare

    folder, steps = Path(tempfile.mkdtemp(prefix="keras_resnet-loop-")), 10 if quick else 100
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

    def of_bare_steps() -> float:
        start = time.process_time()
        for _ in range(steps):
            bare.train_on_batch(images, labels)
        return config.batch_size * steps / (time.process_time() - start)

    def of_an_epoch() -> float:
        start = time.process_time()
        fit(run, run.clock.step + steps, verbose=0)
        return config.batch_size * steps / (time.process_time() - start)

    title = f"train ResNet-20, batch 128, mixed_bfloat16: an epoch of {steps} steps with all there is to it"
    return [(title, "images/CPU s", {"bare train_on_batch": of_bare_steps, "the loop": of_an_epoch})]
