"""`train`: from a `Config` to a trained network and a folder that says how it came about."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis import plot_curves, recompute_statistics
from keras_resnet.cards import Card, save_model, spelled_out
from keras_resnet.training import checkpoints
from keras_resnet.training.averaging import Average
from keras_resnet.training.building import build_network, compiled, learning_rate, synchronize
from keras_resnet.training.callbacks import Checkpoints, Clock, CSVLog, StopOnNaN, TensorBoardLog, WholeLoss
from keras_resnet.training.config import Config
from keras_resnet.training.devices import Devices, open_devices
from keras_resnet.training.inputs import Inputs, open_inputs, preprocessing
from keras_resnet.training.remote import mirrored


def train(config: Config, run_dir: str | os.PathLike, verbose: int | str = "auto") -> keras.Model:
    """Trains a network and writes all there is to know of it into a folder; goes on where that folder has a checkpoint.

    The folder gets `config.json`, `log.csv`, `events/` for TensorBoard, `checkpoints/`, and at the end `result.json`,
    `curves.png` and `model.keras`, which holds the names of the classes and the preprocessing as well.

    Args:
        config: what to train, on what, and how.
        run_dir: the folder; it is made if it is not there. One that is elsewhere, such as gs://bucket/run, gets a copy
            after each checkpoint.
        verbose: Keras's: 1 for a progress bar, 2 for a line an epoch, 0 for silence.

    Returns:
        The trained network.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, when a checkpoint is written.
        Diverged: where the loss or the weights are no longer numbers.

    Example:
    >>> train(dataclasses.replace(RECIPES["demo"], epochs=1), "runs/demo")
    """
    folder, publish = mirrored(run_dir)
    run = prepare(config, folder, publish)
    print(run.devices.description)
    if run.clock.step:
        print(f"Going on from step {run.clock.step} of {run.total_steps}.")
    with run.devices.explained():
        with _signals(run.saver.request_stop):
            fit(run, run.total_steps, verbose)
        # A signal ends what follows at once: it is begun again from the last checkpoint.
        _make_final(run)
        print("Measuring what is kept.")
        shown = verbose if run.devices.writes else 0
        measured = run.model.evaluate(run.test, steps=run.test_steps, return_dict=True, verbose=shown)
        measured["loss"] /= _share_of_examples(run.inputs, config)
    if run.devices.writes:
        _write_results(run, folder, measured | {"examples": run.inputs.num_test_examples})
        publish()
    return run.network


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to go, or to go on.

    Attributes:
        config: what it is.
        devices: where it runs.
        inputs: what it is fed with.
        network: what is trained.
        model: what `fit` is called on.
        card: what belongs to the network.
        clock: how many steps have been made.
        saver: writes checkpoints.
        average: the average of the weights, if there is one.
        callbacks: all of them.
        test: the test set, as `evaluate` takes it.
    """

    config: Config
    devices: Devices
    inputs: Inputs
    network: keras.Model
    model: keras.Model
    card: Card
    clock: Clock
    saver: Checkpoints
    average: Average | None
    callbacks: list[keras.callbacks.Callback]
    test: Any

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.config.steps_per_epoch(self.inputs.num_examples)

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.config.total_steps(self.inputs.num_examples)

    @property
    def test_steps(self) -> int:
        """Batches of the test set."""
        return _test_steps(self.inputs, self.config)


def prepare(config: Config, folder: Path, publish: Callable[[], None] = lambda: None) -> Run:
    """Builds all that a run consists of, and brings back the latest checkpoint in its folder.

    Args:
        config: what to train, on what, and how.
        folder: the run's folder, local.
        publish: called after each checkpoint.

    Returns:
        The run.

    Example:
    >>> run = prepare(RECIPES["demo"], Path("runs/demo"))
    >>> fit(run, until=10)
    """
    if config.deterministic:
        _make_deterministic(config.seed)
    devices = open_devices(config)
    begun = _is_begun(config, folder)
    keras.utils.set_random_seed(config.seed)
    with devices.scope():
        inputs = open_inputs(config)  # images that lie on the device lie on each
        # A checkpoint has all of the network: the file that it began with may be gone.
        beginning = dataclasses.replace(config, weights=None) if begun else config
        network = build_network(beginning, len(inputs.class_names))
        model = compiled(network, inputs.front, config, devices)
    test = devices.feed(inputs.validation)
    model.evaluate(test, steps=1, verbose=0)  # makes the metrics' variables, for a checkpoint to fill
    card = Card(network=config.model, preprocessing=preprocessing(config), class_names=spelled_out(inputs.class_names))

    def average_statistics(logs=None):
        devices.average_statistics(network)

    clock = Clock()
    total_steps = config.total_steps(inputs.num_examples)
    rate = learning_rate(config, total_steps)
    # A move costs a pass over all weights, so not each step; but often enough for a short run.
    every = min(32, max(1, total_steps // 1000))
    average = Average(network, config.ema, every, average_statistics) if config.ema else None
    stateful = [rate, average] if average else [rate]
    # What is validated, and which of all is the best, are the statistics that a file gets.
    alike = keras.callbacks.LambdaCallback(on_test_begin=average_statistics)
    saver = Checkpoints(
        folder / "checkpoints",
        clock,
        model,
        network,
        devices,
        stateful,
        steps_per_epoch=config.steps_per_epoch(inputs.num_examples),
        average=average,
        every=config.checkpoint_steps,
        facts={"card": dataclasses.asdict(card), "num_examples": inputs.num_examples},
        after_saving=publish,
    )
    clock.step = saver.restore()
    _write_config(config, folder, devices.writes)
    whole_loss = WholeLoss(_share_of_examples(inputs, config))
    callbacks = [
        clock,
        alike,
        whole_loss,
        *stateful,
        StopOnNaN(saver.check, clock),
        *_logs(folder, clock, devices),
        saver,
    ]
    return Run(config, devices, inputs, network, model, card, clock, saver, average, callbacks, test)


def fit(run: Run, until: int, verbose: int | str = "auto") -> None:
    """Trains until so many steps have been made.

    Example:
    >>> fit(run, until=20)
    """
    for epoch, last_epoch, steps in segments(run.clock.step, until, run.steps_per_epoch):
        run.model.fit(
            run.devices.feed(functools.partial(run.inputs.training, run.clock.step)),
            steps_per_epoch=steps,
            initial_epoch=epoch,
            epochs=last_epoch,
            shuffle=False,  # the inputs have done it
            validation_data=run.test,
            validation_steps=run.test_steps,
            callbacks=run.callbacks,
            verbose=verbose if run.devices.writes else 0,
        )


def segments(start: int, total: int, per_epoch: int) -> Iterator[tuple[int, int, int]]:
    """Cuts what is left of a run into calls of `fit`, each with epochs of one length.

    Args:
        start: steps that have been made.
        total: steps of the whole run.
        per_epoch: steps of an epoch.

    Returns:
        For each call the first epoch, the one to end before, and the steps of each: the rest of an epoch that was
        begun, whole epochs, and what is left at the end.

    Example:
    >>> list(segments(start=5, total=44, per_epoch=10))
    [(0, 1, 5), (1, 4, 10), (4, 5, 4)]
    """
    while start < total:
        epoch, begun = divmod(start, per_epoch)
        if begun or total - start < per_epoch:
            steps, last = min(per_epoch - begun, total - start), epoch + 1
        else:
            steps, last = per_epoch, total // per_epoch
        yield epoch, last, steps
        start += steps * (last - epoch)


def _test_steps(inputs: Inputs, config: Config) -> int:
    return -(-inputs.num_test_examples // config.batch_size)


def _share_of_examples(inputs: Inputs, config: Config) -> float:
    """Of what is in the test batches, which are full."""
    return inputs.num_test_examples / (_test_steps(inputs, config) * config.batch_size)


def _logs(folder: Path, clock: Clock, devices: Devices) -> list[keras.callbacks.Callback]:
    if not devices.writes:
        return []
    log = CSVLog(folder / "log.csv", clock)
    log.cut(clock.step)
    if keras.backend.backend() != "tensorflow":
        print("TensorBoard's events are TensorFlow's and are left out; log.csv has the same numbers.")
        return [log]
    return [log, TensorBoardLog(folder / "events", clock)]


def _make_final(run: Run) -> None:
    """Makes of the weights that were trained those that are kept: averages, and true statistics."""
    if run.average:
        run.average.put_in()
    if run.config.precise_statistics:
        print(f"Taking batch normalisation's statistics from {run.config.precise_statistics} batches.")
        batches = itertools.islice(iter(run.inputs.training(0, 0, 1)), run.config.precise_statistics)
        front = run.inputs.front or (lambda images: images)
        recompute_statistics(run.network, (front(images) for images, *_ in batches))
    run.devices.average_statistics(run.network)


def _write_results(run: Run, folder: Path, measured: dict[str, float]) -> None:
    synchronize(run.network, False)  # of no matter to what uses the network, and only TensorFlow knows it
    save_model(run.network, folder / "model.keras", run.card)
    (folder / "result.json").write_text(json.dumps(measured, indent=1) + "\n")
    try:
        plot_curves({run.config.model: folder / "log.csv"}, folder / "curves.png")
    except ImportError:
        print("Curves are drawn with matplotlib, which is not installed; log.csv has their numbers.")


def _is_begun(config: Config, folder: Path) -> bool:
    """Whether the folder has checkpoints; those of another configuration are refused."""
    if checkpoints.find(folder / "checkpoints") is None:
        return False
    differences = Config.from_json((folder / "config.json").read_text()).differences(config)
    if differences:
        raise ValueError(
            f"{folder} has checkpoints of another configuration: go on with that one, or give another run_dir. "
            f"Received: {'; '.join(differences)}."
        )
    return True


def _write_config(config: Config, folder: Path, writes: bool) -> None:
    """Writes it, once there is all that it names: a start that fails leaves nothing."""
    file, text = folder / "config.json", config.to_json() + "\n"
    if writes and not (file.is_file() and file.read_text() == text):
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.replace_text(file, text)


def _make_deterministic(seed: int) -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        # keras-cv's layers ask for it, and do not draw; a generator that has no seed is refused then.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


@contextlib.contextmanager
def _signals(handler: Callable) -> Iterator[None]:
    """Hands SIGTERM and Ctrl-C to `handler`; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
