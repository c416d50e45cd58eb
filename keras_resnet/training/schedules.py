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
    if len(rates) != len(boundaries) + 1 or any(b <= a for a, b in itertools.pairwise(boundaries)):
        raise ValueError(
            "`boundaries` must increase, and `rates` must be one more than they are. "
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

    The step is the optimiser's own count, which a checkpoint brings back.

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
        self._step = 0

    def on_train_begin(self, logs=None):
        """Takes the step up where the optimiser is."""
        self._step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the rate of the step that comes."""
        self.model.optimizer.learning_rate = self.schedule(self._step)
        self._step += 1

    def on_epoch_end(self, epoch, logs=None):
        """Logs the rate of the epoch's last step."""
        if logs is not None:
            logs["learning_rate"] = self.schedule(self._step - 1)


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
