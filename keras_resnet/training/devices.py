"""What the loop has to know of the devices under it: one device on any backend, or TensorFlow's strategies."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.training.config import Config


@dataclasses.dataclass(frozen=True)
class Devices:
    """Some devices; the defaults are those of a single one.

    Attributes:
        scope: a context in which variables are made.
        wrap: what to fit in place of a model.
        feed: from a function of (worker, workers) that makes a worker's rows, to what `fit` takes.
        synchronized: whether batch norms take their moments over all replicas.
        writes: whether this process writes, and not another worker.
        average_statistics: gives all replicas of a network the same moving statistics.
        any_worker: whether a flag is up on any worker.
        ask_every: steps between asking that, for which workers wait for one another.
        same: whether a number is the same on all workers.
        explained: a context that says what it means when another worker is gone.
        description: one line.
    """

    scope: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    wrap: Callable[[keras.Model], keras.Model] = lambda model: model
    feed: Callable[[Callable[[int, int], Any]], Any] = lambda make: make(0, 1)
    synchronized: bool = False
    writes: bool = True
    average_statistics: Callable[[keras.Model], None] = lambda network: None
    any_worker: Callable[[bool], bool] = bool
    ask_every: int = 1
    same: Callable[[int], bool] = lambda number: True
    explained: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    description: str = ""


def open_devices(config: Config) -> Devices:
    """The devices that a configuration names; to be called before anything else of TensorFlow's.

    Example:
    >>> open_devices(RECIPES["demo"]).writes
    True
    """
    if keras.backend.backend() == "tensorflow":
        return _strategy(config)
    if config.strategy not in ("none", "one_device"):
        raise ValueError(
            f"Strategies are TensorFlow's; the {keras.backend.backend()} backend trains on one device. "
            f"Received: strategy={config.strategy!r}."
        )
    return Devices(description=f"{keras.backend.backend()}: batch {config.batch_size}, {config.dtype}")


def _strategy(config: Config) -> Devices:
    from keras_resnet.training import distribution, strategies

    strategy = strategies.get_strategy(config.strategy, config.all_reduce, config.tpu)
    distribution.check(strategy, config.batch_size)
    if config.precise_statistics and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "precise_statistics are taken on one device: leave them out, and recompute them after training with "
            f"recipes/analyze.py. Received: precise_statistics={config.precise_statistics}."
        )
    synchronized = strategies.synchronized(strategy, config.batch_size)
    averaging = functools.lru_cache(maxsize=1)(lambda network: distribution.averaging(network, strategy))
    description = strategies.describe(strategy, config.strategy, config.batch_size, config.dtype)
    return Devices(
        scope=strategy.scope,
        wrap=lambda model: distribution.trainable(model, strategy),
        feed=lambda make: distribution.feed(strategy, config.batch_size, make),
        synchronized=synchronized,
        writes=strategies.is_chief(strategy),
        average_statistics=lambda network: averaging(network)(),
        any_worker=lambda flag: distribution.any_worker(strategy, flag),
        ask_every=1 if strategies.place(strategy)[1] == 1 else 10,
        same=lambda number: distribution.same(strategy, number),
        explained=lambda: distribution.lost_worker_explained(strategy),
        description=description + ", batch norm over all replicas" * synchronized,
    )
