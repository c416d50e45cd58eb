"""What happens beside the steps of a run: checkpoints, the log, a stop that loses nothing, a word when the loss is NaN.

A callback's `variables`, and what its `get_state` gives, go into the checkpoints under the name of its class.
"""

import contextlib
import csv
import io
import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from keras_resnet.training import checkpoints
from keras_resnet.training.averaging import Average
from keras_resnet.training.devices import Devices


class Interrupted(Exception):
    """A signal has ended the run; a checkpoint is written.

    Attributes:
        signum: the signal, such as `signal.SIGTERM`.
        folder: the checkpoint to go on from; None if the run had not come to the first.
    """

    def __init__(self, signum: int, folder: Path | None):
        name = signal.Signals(signum).name
        super().__init__(
            f"Stopped by {name}. " + (f"Checkpoint: {folder}." if folder else "There is no checkpoint yet.")
        )
        self.signum, self.folder = signum, folder


class Diverged(ArithmeticError):
    """The loss or the weights are no longer numbers."""


class Clock(keras.callbacks.Callback):
    """Counts the steps of the run, whatever `fit` calls an epoch. The loop sets `step` before each `fit`."""

    def __init__(self):
        super().__init__()
        self.step = 0

    def on_train_batch_begin(self, batch, logs=None):
        """One more."""
        self.step += 1


class Checkpoints(keras.callbacks.Callback):
    """Writes checkpoints: every so many steps, around the last of an epoch, and when a signal asks the run to end.

    Args:
        root: their folder.
        clock: the run's clock.
        model: the compiled model, with an optimiser and metrics that are built.
        network: what is trained; the model may be a wrapper around it.
        devices: who writes, and who agrees to stop.
        callbacks: whose states are saved.
        steps_per_epoch: steps of an epoch.
        average: if there is one, it is what a checkpoint has for the network, and the network for the average.
        every: steps between checkpoints.
        facts: what else a checkpoint says, as JSON can hold it; a run goes on only where it is still so.
        after_saving: called after each checkpoint.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        model: keras.Model,
        network: keras.Model,
        devices: Devices,
        callbacks: Sequence[keras.callbacks.Callback],
        steps_per_epoch: int,
        average: Average | None = None,
        every: int = 1000,
        facts: Mapping[str, Any] | None = None,
        after_saving: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.set_model(model)
        self.root, self.clock, self.network, self.callbacks = root, clock, network, [*callbacks, self]
        self.steps_per_epoch, self.every, self.average = steps_per_epoch, every, average
        self.facts = json.loads(json.dumps(facts or {}))
        self.devices, self.after_saving = devices, after_saving
        self.best: float | None = None
        self.signum: int | None = None
        self._metrics: list[Any] | None = None

    def get_state(self) -> dict[str, Any]:
        """The best validation accuracy so far."""
        return {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes up where `get_state` was."""
        self.best = state["best"]

    def request_stop(self, signum: int, frame: FrameType | None = None) -> None:
        """A signal handler: the run ends after the step; a second Ctrl-C ends it at once.

        A second SIGTERM does not: Slurm sends it when the first worker has ended, and the chief may be writing.
        """
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = self.signum or signum

    def restore(self) -> int:
        """Brings back the latest checkpoint, if there is one; returns the step."""
        folder = checkpoints.find(self.root)
        if not self.devices.same(0 if folder is None else int(folder.name.removeprefix("step-"))):
            raise ValueError(
                "The workers do not see the same checkpoint: the run's folder must be one that all of them share. "
                f"Received: {folder or self.root}."
            )
        if folder is None:
            return 0
        state = checkpoints.read_state(folder)
        before, now = dict(_leaves({name: state.get(name) for name in self.facts})), dict(_leaves(self.facts))
        changed = [
            f"{name}: {before.get(name)!r} -> {fact!r}" for name, fact in now.items() if before.get(name) != fact
        ]
        if changed or before.keys() - now.keys():
            raise ValueError(
                f"The data is not that of {folder}: go on with that, or give another run_dir. "
                f"Received: {'; '.join(changed[:5]) or 'less of it'}."
            )
        checkpoints.restore(folder, self.network, self._variables())
        for callback in _stateful(self.callbacks):
            callback.set_state(state["callbacks"][type(callback).__name__])
        # `fit` resets the metrics when an epoch begins: what this one had is kept until then.
        self._metrics = [keras.ops.convert_to_numpy(variable) for variable in self.model.metrics_variables]
        return state["step"]

    def save(self, best: bool = False) -> None:
        """Writes a checkpoint of this moment; no worker goes on, or ends, before it is written."""
        _sync(self.model)
        self.devices.average_statistics(self.network)
        # The loss is of the weights before the step. Those after it must not be what each start goes on with.
        if not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in self.network.weights):
            raise self._diverged("The weights are no longer numbers")
        with self.average.inside() if self.average else contextlib.nullcontext():
            # All workers read: metrics are sums over them.
            numbers = {
                group: [keras.ops.convert_to_numpy(variable) for variable in variables]
                for group, variables in self._variables().items()
            }
            if self.devices.writes:
                states = {type(callback).__name__: callback.get_state() for callback in _stateful(self.callbacks)}
                state = {**self.facts, "callbacks": states}
                checkpoints.save(self.root, self.clock.step, self.network, numbers, state, best)
        if self.devices.writes:
            self.after_saving()
        self.devices.any_worker(False)

    def on_epoch_begin(self, epoch, logs=None):
        """After a resume: gives an epoch that was begun its metrics back."""
        if self._metrics is not None and self.clock.step % self.steps_per_epoch:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
        self._metrics = None

    def on_train_batch_end(self, batch, logs=None):
        """Checks, writes, stops. The last step before a validation is left to `on_epoch_end`: it has more to save."""
        left = self.params["steps"] - (batch + 1)
        if left == 0:
            return
        is_asked = self.clock.step % self.devices.ask_every == 0 and self._is_asked()
        if is_asked or left == 1 or self.clock.step % self.every == 0:
            self.check(logs)
            self.save()
        self._stop_if(is_asked)

    def on_test_batch_end(self, batch, logs=None):
        """Stops. The last step is made again, from the checkpoint before it: validation is not done in halves."""
        if batch % self.devices.ask_every == 0:
            self._stop_if(self._is_asked())

    def on_epoch_end(self, epoch, logs=None):
        """Writes, and knows the best."""
        self.check(logs)
        accuracy = float(logs["val_accuracy"])
        is_best = self.best is None or accuracy > self.best
        self.best = accuracy if is_best else self.best
        self.save(is_best)
        self._stop_if(self._is_asked())

    def _variables(self) -> dict[str, Any]:
        saved = {id(variable) for variable in self.network.weights}
        return {
            "seeds": [variable for variable in self.network.variables if id(variable) not in saved],
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
            **{type(callback).__name__: callback.variables for callback in self.callbacks if _has_variables(callback)},
        }

    def check(self, logs: Mapping[str, Any] | None, step: int | None = None) -> None:
        """Stops the run where a loss, by default of the last step, is no number: before that is written down."""
        for name in ("loss", "val_loss"):
            loss = float((logs or {}).get(name, 0.0))
            if not math.isfinite(loss):
                raise self._diverged(f"The {name} is {loss}", step)

    def _diverged(self, what: str, step: int | None = None) -> Diverged:
        _sync(self.model)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return Diverged(
            f"{what} at step {step or self.clock.step}, with a learning rate of {rate:g}. The last good checkpoint: "
            f"{checkpoints.find(self.root)}. A lower learning_rate or a longer warm-up may help."
        )

    def _is_asked(self) -> bool:
        return self.devices.any_worker(self.signum is not None)

    def _stop_if(self, is_asked: bool) -> None:
        if is_asked:
            raise Interrupted(self.signum or signal.SIGTERM, checkpoints.find(self.root))


class WholeLoss(keras.callbacks.Callback):
    """Corrects the loss of the test set: Keras divides it by all examples, those of weight 0 among them.

    Args:
        share: how many of the examples are not there only to fill up the last batch. All batches are of one size.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def on_epoch_end(self, epoch, logs=None):
        """Corrects it for the callbacks that come after."""
        logs["val_loss"] /= self.share


class StopOnNaN(keras.callbacks.Callback):
    """Looks at the losses every few steps, since a look makes the device wait, and leaves the word to `check`.

    Args:
        check: is given logs and their step.
        clock: the run's clock.
        every: steps between looks.
    """

    def __init__(self, check: Callable[[Mapping[str, Any], int], None], clock: Clock, every: int = 10):
        super().__init__()
        self.check, self.clock, self.every = check, clock, every
        self._unseen: list[tuple[Mapping[str, Any], int]] = []

    def on_train_batch_end(self, batch, logs=None):
        """Looks."""
        self._unseen.append(({"loss": logs["loss"]}, self.clock.step))
        if batch % self.every == 0:
            self.look()

    def on_epoch_end(self, epoch, logs=None):
        """Looks at what is left."""
        self.look()

    def look(self) -> None:
        """Checks what has not been, the latest first: a loss is a mean over the epoch, and stays no number."""
        seen, self._unseen = self._unseen, []
        if seen and not math.isfinite(float(seen[-1][0]["loss"])):
            for logs, step in seen:
                self.check(logs, step)


class CSVLog(keras.callbacks.Callback):
    """One row for each epoch: its number, the run's step, and what `fit` has measured.

    Args:
        path: the file. After a resume the rows that are yet to come again are taken out.
        clock: the run's clock.
    """

    def __init__(self, path: Path, clock: Clock):
        super().__init__()
        self.path, self.clock = path, clock

    def rows(self) -> list[dict[str, str]]:
        """What is in the file."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [*csv.DictReader(file)]

    def cut(self, step: int) -> None:
        """Takes out the rows after `step`."""
        self._write([row for row in self.rows() if int(row["step"]) <= step])

    def on_epoch_end(self, epoch, logs=None):
        """Adds the row."""
        numbers = {name: f"{float(value):.7g}" for name, value in (logs or {}).items()}
        self._write([*self.rows(), {"epoch": str(epoch + 1), "step": str(self.clock.step), **numbers}])

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        checkpoints.replace_text(self.path, text.getvalue())


class TensorBoardLog(keras.callbacks.Callback):
    """Writes what each epoch has measured as TensorBoard's events; needs TensorFlow, but not TensorBoard.

    Args:
        folder: gets one file of events for each start of the run.
        clock: the run's clock.
    """

    def __init__(self, folder: Path, clock: Clock):
        super().__init__()
        import tensorflow as tf

        self.clock, self._writer = clock, tf.summary.create_file_writer(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        """Writes the events."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata()  # tf.summary.scalar needs TensorBoard installed; this is what it does
        metadata.plugin_data.plugin_name = "scalars"
        with self._writer.as_default():
            for name, value in (logs or {}).items():
                metric = name.removeprefix("val_")
                tag = f"{'training' if metric == name else 'validation'}/{metric}"
                tf.summary.write(tag, tf.constant(float(value)), self.clock.step, metadata)
        self._writer.flush()


def _sync(model: keras.Model) -> None:
    """Within an epoch, JAX keeps the numbers to itself."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What JSON holds, by the path to each value in it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield name, value
    for key, each in inside or ():
        yield from _leaves(each, f"{name}.{key}".lstrip("."))


def _has_variables(callback: keras.callbacks.Callback) -> bool:
    return bool(getattr(callback, "variables", None))


def _stateful(callbacks: Sequence[keras.callbacks.Callback]) -> list[Any]:
    return [callback for callback in callbacks if hasattr(callback, "get_state")]
