"""Learning rates as functions of the step, and the callback that sets them.

A schedule is a function from the step, counted from 0, to the learning rate. Being a function of nothing else, it is
exact for each step, also right after a resume.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import keras

Schedule = Callable[[int], float]


def piecewise(boundaries: Sequence[int], rates: Sequence[float]) -> Schedule:
    """Constant rates; `rates[i + 1]` holds from step `boundaries[i]` on.

    Args:
        boundaries: increasing steps.
        rates: one more than there are boundaries.

    Returns:
        The schedule.

    Example:
    >>> cifar = piecewise([32_000, 48_000], [0.1, 0.01, 0.001])
    >>> cifar(31_999), cifar(32_000)
    (0.1, 0.01)
    """
    boundaries, rates = tuple(boundaries), tuple(rates)
    if len(rates) != len(boundaries) + 1 or any(b < a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(
            "`boundaries` must not decrease, and `rates` must be one more than they are. "
            f"Received: boundaries={boundaries}, rates={rates}."
        )
    return lambda step: rates[sum(step >= boundary for boundary in boundaries)]


def cosine(steps: int, rate: float, final_rate: float = 0.0) -> Schedule:
    """Half a cosine from `rate` at step 0 to `final_rate` at step `steps`.

    Example:
    >>> cosine(100, 0.2)(50)
    0.1
    """
    _check_steps(steps)

    def schedule(step: int) -> float:
        done = min(step / steps, 1.0)
        return final_rate + (rate - final_rate) * (1 + math.cos(math.pi * done)) / 2

    return schedule


def one_cycle(steps: int, rate: float, warmup: float = 0.3, final_rate: float = 0.0) -> Schedule:
    """Linearly up to `rate` during the share `warmup` of the steps, linearly down to `final_rate` after it.

    Example:
    >>> [one_cycle(100, 0.4, warmup=0.5)(step) for step in (0, 50, 100)]
    [0.0, 0.4, 0.0]
    """
    _check_steps(steps)
    peak = steps * warmup

    def schedule(step: int) -> float:
        if step < peak:
            return rate * step / peak
        return rate + (final_rate - rate) * min((step - peak) / (steps - peak), 1.0)

    return schedule


def warm_up(steps: int, schedule: Schedule, from_rate: float = 0.0) -> Schedule:
    """Goes linearly from `from_rate` to what `schedule` has at step `steps`, and follows `schedule` from there on.

    Example:
    >>> [warm_up(10, piecewise([], [0.1]))(step) for step in (0, 5, 10)]
    [0.0, 0.05, 0.1]
    """
    _check_steps(steps)
    goal = schedule(steps)
    return lambda step: schedule(step) if step >= steps else from_rate + (goal - from_rate) * step / steps


def linearly_scaled(rate: float, batch_size: int, base_batch_size: int = 256) -> float:
    """The rate for a batch size: so many times the rate as the batch is larger (Goyal et al. 2017).

    Example:
    >>> linearly_scaled(0.1, 1024)
    0.4
    """
    return rate * batch_size / base_batch_size


def _check_steps(steps: int):
    if steps < 1:
        raise ValueError(f"A schedule needs 1 step or more. Received: steps={steps}.")


class LearningRate(keras.callbacks.Callback):
    """Sets the optimiser's learning rate before each step from a schedule.

    The step is the optimiser's own count, which a checkpoint brings back, and the steps that a loss scale skipped.
    Like every callback here that remembers something, it hands its state out and takes it back.

    Args:
        schedule: a function from the step to the rate.

    Example:
    >>> callbacks = [LearningRate(cosine(1000, 0.1))]  # for model.fit(..., callbacks=callbacks)
    >>> callbacks[0].schedule(500)
    0.05
    """

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule
        self._state = {"skipped": 0}
        self._step = None
        self._rate = None

    def get_state(self) -> dict:
        """What a checkpoint needs of this callback, in values that JSON has.

        Example:
        >>> LearningRate(cosine(1000, 0.1)).get_state()
        {'skipped': 0}
        """
        if self._step is not None:
            self._state["skipped"] = self._step - self._counted()
        return dict(self._state)

    def set_state(self, state: dict) -> None:
        """Takes back what `get_state` gave; before `fit`.

        Example:
        >>> LearningRate(cosine(1000, 0.1)).set_state({"skipped": 2})
        """
        if state.keys() != self._state.keys():
            raise ValueError(
                f"{type(self).__name__} has the state {', '.join(self._state)}. Received: {', '.join(state)}."
            )
        self._state = dict(state)
        self._step = None

    def rate(self, step: int) -> float:
        """The rate of a step, as things stand.

        Example:
        >>> LearningRate(cosine(1000, 0.1)).rate(500)
        0.05
        """
        return self.schedule(step)

    def on_train_begin(self, logs=None):
        """Takes the step up where the optimiser is."""
        if self.model.steps_per_execution != 1:
            raise ValueError(
                "The learning rate is set before each step, but Keras lets callbacks act once an execution only. "
                f"Compile the model with steps_per_execution=1. Received: {self.model.steps_per_execution}."
            )
        self._step = self._counted() + self._state["skipped"]
        self._rate = None

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the rate of the step that comes."""
        rate = self.rate(self._step)
        if rate != self._rate:  # under JAX, touching the optimiser costs a copy of the state's references
            self.model.optimizer.learning_rate = self._rate = rate
        self._step += 1

    def on_epoch_end(self, epoch, logs=None):
        """Logs the rate of the epoch's last step."""
        if logs is not None:
            logs["learning_rate"] = self._rate

    def on_train_end(self, logs=None):
        """Keeps the count of skipped steps for the next `fit`."""
        self._state = self.get_state()

    def _counted(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))


class PiecewiseLR(LearningRate):
    """The paper's schedule: constant rates that change at given steps, or at given epochs.

    Args:
        boundaries: steps at which the rate changes, or epochs if `steps_per_epoch` is given.
        rates: one more than there are boundaries.
        steps_per_epoch: how many steps an epoch of the boundaries has; None if they are steps.

    Example:
    >>> PiecewiseLR([30, 60], [0.1, 0.01, 0.001], steps_per_epoch=5004).schedule(30 * 5004)
    0.01
    """

    def __init__(self, boundaries: Sequence[float], rates: Sequence[float], steps_per_epoch: int | None = None):
        super().__init__(piecewise([round(boundary * (steps_per_epoch or 1)) for boundary in boundaries], rates))


class Plateau(LearningRate):
    """The paper's "divided by 10 when the error plateaus": the schedule's rate, divided so for each plateau.

    Args:
        schedule: the rate without plateaus, such as `piecewise([], [0.1])`, perhaps with a warm-up.
        monitor: the logged quantity that should get better. For a `val_`, epochs without validation do not count.
        higher_is_better: whether better is more, as for an accuracy.
        patience: so many epochs in a row without a new best are a plateau.
        min_delta: a new best must be better by more than this.
        divisor: what a plateau divides the rate by.

    Example:
    >>> plateau = Plateau(piecewise([], [0.1]), patience=2)
    >>> for epoch, accuracy in enumerate([0.5, 0.7, 0.7, 0.6]):
    ...     plateau.on_epoch_end(epoch, {"val_accuracy": accuracy})
    >>> plateau.rate(step=4000)
    0.01
    """

    def __init__(
        self,
        schedule: Schedule,
        monitor: str = "val_accuracy",
        higher_is_better: bool = True,
        patience: int = 5,
        min_delta: float = 1e-4,
        divisor: float = 10.0,
    ):
        super().__init__(schedule)
        self.monitor = monitor
        self.sign = 1 if higher_is_better else -1
        self.patience = patience
        self.min_delta = min_delta
        self.divisor = divisor
        self._state |= {"best": None, "waited": 0, "reduced": 0}

    def rate(self, step: int) -> float:
        """The rate of a step, with the plateaus seen so far."""
        return self.schedule(step) / self.divisor ** self._state["reduced"]

    def on_epoch_end(self, epoch, logs=None):
        """Sees whether the epoch was the best."""
        super().on_epoch_end(epoch, logs)
        is_validated = any(name.startswith("val_") for name in logs)
        if self.monitor.startswith("val_") and not is_validated:
            return
        value, state = self.sign * float(_logged(self.monitor, logs)), self._state
        if state["best"] is None or value > state["best"] + self.min_delta:
            state |= {"best": value, "waited": 0}
            return
        state["waited"] += 1
        if state["waited"] >= self.patience:
            state |= {"waited": 0, "reduced": state["reduced"] + 1}


class WarmUpUntilError(LearningRate):
    """A low rate until the training error falls below a bound, then the schedule (the paper's ResNet-110).

    The error is one minus the epoch's running accuracy, as Keras logs it, after each step.

    Args:
        schedule: the rate after the warm-up, by the step counted from the very first.
        warmup_rate: the rate until then.
        error: the warm-up ends below this error.
        metric: name of the training accuracy in the logs.

    Example:
    >>> warm = WarmUpUntilError(piecewise([32_000, 48_000], [0.1, 0.01, 0.001]))
    >>> warm.on_train_batch_end(399, {"accuracy": 0.21})
    >>> warm.rate(step=400)
    0.1
    """

    def __init__(self, schedule: Schedule, warmup_rate: float = 0.01, error: float = 0.8, metric: str = "accuracy"):
        super().__init__(schedule)
        self.warmup_rate = warmup_rate
        self.error = error
        self.metric = metric
        self._state["is_warm"] = False

    def rate(self, step: int) -> float:
        """The rate of a step: the schedule's once it is warm."""
        return self.schedule(step) if self._state["is_warm"] else self.warmup_rate

    def on_train_batch_end(self, batch, logs=None):
        """Sees whether the error is low enough; reading it waits for the device, so no longer than the warm-up."""
        if not self._state["is_warm"]:
            accuracy = float(keras.ops.convert_to_numpy(_logged(self.metric, logs)))
            self._state["is_warm"] = bool(1 - accuracy < self.error)


def _logged(name: str, logs: dict):
    if name not in logs:
        raise ValueError(
            f"The learning rate depends on what is not logged; there is {', '.join(logs)}. Received: {name!r}."
        )
    return logs[name]
