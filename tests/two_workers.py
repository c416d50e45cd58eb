"""What one worker of a run does: `test_workers.py` starts two of these, and calls `train` itself for one device.

python tests/two_workers.py FOLDER [KILL_AT]   # worker 1 kills itself after step KILL_AT
"""

import faulthandler
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import strategies
from keras_resnet.training.callbacks import Checkpoints, Clock
from keras_resnet.training.config import Config
from keras_resnet.training.devices import Devices, open_devices
from keras_resnet.training.optimizers import SGD

BATCH, STEPS, EXAMPLES = 8, 6, 24


class KillYourself(keras.callbacks.Callback):
    def __init__(self, clock, step):
        super().__init__()
        self.clock, self.step = clock, step

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def rows(worker, workers):
    """This worker's rows of each batch of an epoch: images, labels and numbers."""
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(EXAMPLES, 8, 8, 3)), random.integers(0, 3, EXAMPLES)
    mine = np.arange(EXAMPLES).reshape(-1, workers, BATCH // workers)[:, worker]
    return tf.data.Dataset.from_tensor_slices((images[mine], labels[mine], mine))


def place(devices):
    with devices.scope():
        return strategies.place(tf.distribute.get_strategy())[0]


def train(devices: Devices, folder: Path, kill_at=None):
    """Trains `STEPS` steps, every epoch in the same order, with checkpoints, and goes on from the last of them."""
    number, steps = place(devices), EXAMPLES // BATCH
    keras.utils.set_random_seed(1)
    with devices.scope():
        network = keras_resnet.build(
            keras_resnet.Architecture(stem="cifar", depths=(1,), widths=(4,)),
            input_shape=(8, 8, 3),
            classes=3,
            dtype="float64",
            sync_batch_norm=devices.synchronized,
        )
        optimizer = SGD(0.1, weight_decay=1e-3)
        model = devices.wrap(network)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])

    def epoch(first=0):
        return devices.feed(lambda *worker: rows(*worker).map(lambda x, y, _: (x, y)).skip(first))

    model.evaluate(epoch(), steps=steps, verbose=0)
    clock = Clock()
    saver = Checkpoints(
        folder / "checkpoints",
        clock,
        model,
        network,
        devices,
        [],
        steps,
        every=2,
        after_saving=lambda: (folder / f"written-by-{number}").touch(),
    )
    clock.step = saver.restore()
    print(f"worker {number} starts at step {clock.step}", flush=True)
    killer = [KillYourself(clock, kill_at)] if kill_at and number == 1 else []
    with devices.explained():
        while clock.step < STEPS:
            done = clock.step % steps
            model.fit(
                epoch(done),
                steps_per_epoch=steps - done,
                validation_data=epoch(),
                validation_steps=steps,
                shuffle=False,
                callbacks=[clock, saver, *killer],
                verbose=0,
            )
    results = model.evaluate(epoch(), steps=steps, verbose=0)
    predictions = model.predict(epoch(), steps=steps, verbose=0)
    flags = [devices.any_worker(number == raised) for raised in (0, 1, 2)]
    np.savez(folder / f"end-{number}.npz", *network.get_weights(), predictions, results, flags=flags)


def main(folder, kill_at=None):
    faulthandler.dump_traceback_later(400, exit=True)
    devices = open_devices(Config(strategy="multi_worker", batch_size=BATCH))
    keras.config.set_floatx("float64")
    print(devices.description, flush=True)
    seen = [numbers.values[0].numpy() for _, _, numbers in devices.feed(rows)]
    np.save(Path(folder) / f"seen-by-{place(devices)}.npy", seen)
    train(devices, Path(folder), int(kill_at) if kill_at else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
