"""What one worker of a run does: `test_workers.py` starts two of these, and calls `train` itself for one device.

    python tests/two_workers.py FOLDER [KILL_AT]   # worker 1 kills itself after step KILL_AT
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import distribution, strategies
from keras_resnet.training.callbacks import Checkpoints, Clock
from keras_resnet.training.optimizers import SGD

BATCH, STEPS, EXAMPLES = 8, 6, 24


class KillYourself(keras.callbacks.Callback):
    def __init__(self, clock, step):
        super().__init__()
        self.clock, self.step = clock, step

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(EXAMPLES, 8, 8, 3)), random.integers(0, 3, EXAMPLES)


def rows(worker, workers):
    """This worker's rows of each batch, with their numbers."""
    share = BATCH // workers
    numbers = np.arange(EXAMPLES).reshape(-1, workers, share)[:, worker]
    images, labels = data()
    return tf.data.Dataset.from_tensor_slices((images[numbers], labels[numbers], numbers))


def train(strategy, folder: Path, kill_at=None):
    """Trains for `STEPS` steps with a checkpoint after every second one, and goes on from the last of them."""
    number, _ = strategies.place(strategy)
    chief = strategies.is_chief(strategy)
    keras.utils.set_random_seed(1)
    with strategy.scope():
        network = keras_resnet.build(
            keras_resnet.Architecture(stem="cifar", depths=(1,), widths=(4,)),
            input_shape=(8, 8, 3),
            classes=3,
            dtype="float64",
            sync_batch_norm=strategies.synchronized(strategy, BATCH),
        )
        optimizer = SGD(0.1, weight_decay=1e-3)
        distribution.check(strategy, BATCH, optimizer)
        model = distribution.trainable(network, strategy)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])

    def feed(repeat):
        def make(worker, workers):
            pairs = rows(worker, workers).map(lambda image, label, number: (image, label))
            return pairs.repeat(None if repeat else 1)

        return distribution.feed(strategy, BATCH, make)

    steps = EXAMPLES // BATCH
    model.evaluate(feed(False), steps=steps, verbose=0)
    clock = Clock()
    saver = Checkpoints(
        folder / "checkpoints",
        clock,
        model,
        network,
        [],
        steps,
        every=2,
        after_saving=lambda _: (folder / f"written-by-{number}").touch(),
        writes=chief,
    )
    clock.step = start = saver.restore()
    print(f"worker {number} starts at step {start}", flush=True)
    killer = [KillYourself(clock, kill_at)] if kill_at and number == 1 else []
    with distribution.lost_worker_explained(strategy):
        while clock.step < STEPS:
            data_set = feed(True)
            todo = steps - clock.step % steps
            # every epoch is the same one here: what is left of a begun one comes from its end
            model.fit(
                data_set if todo == steps else distribution.feed(strategy, BATCH, skipped(steps - todo)),
                steps_per_epoch=todo,
                verbose=0,
                shuffle=False,
                callbacks=[clock, saver, *killer],
            )
    results = model.evaluate(feed(False), steps=steps, verbose=0)
    predictions = model.predict(feed(False), steps=steps, verbose=0)
    stopped = distribution.any_worker(strategy, number == 1), distribution.any_worker(strategy, False)
    if chief:
        np.savez(folder / "end.npz", *network.get_weights(), predictions, results, start=start, stopped=stopped)


def skipped(batches):
    def make(worker, workers):
        pairs = rows(worker, workers).map(lambda image, label, number: (image, label))
        return pairs.skip(batches).repeat()

    return make


def main(folder, kill_at=None):
    strategy = strategies.get_strategy("multi_worker")
    keras.config.set_floatx("float64")
    print(strategies.describe(strategy, "multi_worker", BATCH, "float64"), flush=True)
    seen = [
        strategy.experimental_local_results(numbers)[0].numpy()
        for _, _, numbers in distribution.feed(strategy, BATCH, rows)
    ]
    np.save(Path(folder) / f"seen-by-{strategies.place(strategy)[0]}.npy", seen)
    train(strategy, Path(folder), int(kill_at) if kill_at else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
