"""`train`: from a `Config` to a trained network and a folder that says how it came about."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from keras_resnet import models
from keras_resnet.cards import Card, save_model
from keras_resnet.training import checkpoints
from keras_resnet.training.callbacks import Checkpoints, Clock, CSVLog, StopOnNaN, TensorBoardLog
from keras_resnet.training.config import Config
from keras_resnet.training.inputs import open_inputs, preprocessing
from keras_resnet.training.optimizers import SGD
from keras_resnet.training.remote import mirrored
from keras_resnet.training.schedules import LearningRate


def train(config: Config, run_dir: str | os.PathLike, verbose: int | str = "auto") -> keras.Model:
    """Trains a network and writes all there is to know of it into a folder; goes on where that folder has a checkpoint.

    The folder gets `config.json`, `log.csv`, `events/` for TensorBoard, `checkpoints/`, and at the end `curves.png` and
    `model.keras`, which holds the names of the classes and the preprocessing as well.

    Args:
        config: what to train, on what, and how.
        run_dir: the folder; it is made if it is not there. One that is elsewhere, such as gs://bucket/run, gets a copy
            after each checkpoint.
        verbose: Keras's: 1 for a progress bar, 2 for a line an epoch, 0 for silence.

    Returns:
        The trained network.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, when a checkpoint is written.
        Diverged: where the loss is no longer a number.

    Example:
    >>> train(dataclasses.replace(RECIPES["demo"], epochs=1), Path("runs/demo"))
    """
    run_dir, publish = mirrored(run_dir)
    checkpoint_dir = run_dir / "checkpoints"
    _take_over(config, run_dir, checkpoint_dir)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        _make_deterministic()
    inputs = open_inputs(config)
    with _strategy(config):
        network = build_network(config, len(inputs.class_names))
        model = compiled(network, inputs.front, config)
    model.evaluate(inputs.validation, steps=1, verbose=0)  # makes the metrics' variables, which a checkpoint fills
    total, per_epoch = config.total_steps(inputs.num_examples), config.steps_per_epoch(inputs.num_examples)

    clock, rate = Clock(), LearningRate(config.rate(total))
    log = CSVLog(run_dir / "log.csv", clock)
    card = Card(network=config.model, preprocessing=preprocessing(config), class_names=inputs.class_names)
    facts = {"card": dataclasses.asdict(card)}
    saver = Checkpoints(
        checkpoint_dir, clock, model, network, [rate], per_epoch, config.checkpoint_steps, facts, after_saving=publish
    )
    clock.step = saver.restore()
    log.cut(clock.step)
    if clock.step:
        print(f"Going on from step {clock.step} of {total}.")
    boards = [TensorBoardLog(run_dir / "events", clock)] if keras.backend.backend() == "tensorflow" else []
    callbacks = [clock, rate, StopOnNaN(saver.check), log, *boards, saver]
    with _signals(saver.request_stop):
        for epoch, last_epoch, steps in segments(clock.step, total, per_epoch):
            model.fit(
                inputs.training(clock.step),
                steps_per_epoch=steps,
                initial_epoch=epoch,
                epochs=last_epoch,
                shuffle=False,  # the inputs have done it
                validation_data=inputs.validation,
                callbacks=callbacks,
                verbose=verbose,
            )
    save_model(network, run_dir / "model.keras", card)
    publish()
    return network


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


def build_network(config: Config, num_classes: int) -> keras.Model:
    """The network of a configuration."""
    shape = (config.image_size, config.image_size, 3)
    settings = dict(config.settings)
    if config.weights:
        settings |= {"weights": config.weights, "load_head": config.load_head}
    network = models.get_model(config.model, input_shape=shape, classes=num_classes, dtype=config.dtype, **settings)
    if config.trainable == "head":
        for layer in network.layers[:-1]:
            layer.trainable = False  # batch norms as well: a frozen one keeps its statistics
    return network


def compiled(network: keras.Model, front: keras.Model | None, config: Config) -> keras.Model:
    """What `fit` is called on: the front and the network, with optimiser, loss and metric that are built."""
    model = network if front is None else keras.Model(front.inputs, network(front.outputs[0]))
    optimizer = SGD(config.learning_rate, config.momentum, config.nesterov, config.weight_decay, config.decay_all)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        weighted_metrics=["accuracy"],  # an example that only fills a batch has the weight 0
    )
    return model


def _take_over(config: Config, run_dir: Path, checkpoint_dir: Path) -> None:
    """Writes the configuration, or sees to it that it is the one whose checkpoints lie there."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / "config.json"
    if checkpoints.find(checkpoint_dir) is not None:
        differences = Config.from_json(file.read_text()).differences(config)
        if differences:
            raise ValueError(
                f"{run_dir} has checkpoints of another configuration: go on with that one, or give another run_dir. "
                f"Received: {'; '.join(differences)}."
            )
    file.write_text(config.to_json() + "\n")


def _make_deterministic() -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _strategy(config: Config) -> contextlib.AbstractContextManager:
    if keras.backend.backend() != "tensorflow":
        if config.strategy not in ("none", "one_device"):
            raise ValueError(
                f"Strategies are TensorFlow's; the {keras.backend.backend()} backend trains on one device. "
                f"Received: strategy={config.strategy!r}."
            )
        return contextlib.nullcontext()
    from keras_resnet.training.strategies import describe, get_strategy

    strategy = get_strategy(config.strategy)
    print(describe(strategy, config.strategy, config.batch_size, config.dtype))
    return strategy.scope()


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
