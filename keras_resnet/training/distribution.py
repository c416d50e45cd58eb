"""What Keras 3 needs to train on several replicas, in one process or in many; and what it cannot do there, refused.

Measured with Keras 3.12 to 3.15. On several replicas stock Keras crashes on a batch that they cannot share evenly and
with `steps_per_execution` above 1 (keras#19246); on several workers it does not train at all (keras#20585).
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_resnet.training.strategies import place

_TESTED = (3, 15)

_REFUSED = {
    "jit_compile": "XLA does not compile a step of several replicas: leave it out.",
    "gradient_accumulation_steps": "Gradients are not accumulated on several replicas: take a larger batch.",
}
# Of Keras's optimisers. Those of keras_resnet.training.optimizers go by the whole batch's gradient.
_REFUSED_TO_KERAS = dict.fromkeys(
    ("clipnorm", "global_clipnorm", "clipvalue"),
    "Each replica would clip the gradient of its own images, not the batch's: take an optimiser of "
    "keras_resnet.training.optimizers.",
) | {
    # Measured: where one replica's gradient is infinite, the others take the step, and all weights become NaN.
    "initial_scale": "A bad step would not be skipped on all replicas: take LossScale of "
    "keras_resnet.training.optimizers, or mixed_bfloat16."
}


class Trainer(keras.Model):
    """A functional model whose `fit`, `evaluate` and `predict` run on several replicas and workers.

    It shares the layers of the model that it is made from: `Trainer(model.inputs, model.outputs)`. Save that model;
    a file of this one would not open elsewhere. `trainable` makes one where one is needed.
    """

    def compile(self, *args, **kwargs):
        """Keras's `compile`; refuses what several replicas cannot do, or would do otherwise than one device."""
        super().compile(*args, **kwargs)
        optimizer = self.optimizer
        wrong = [
            f"{words} Received: {setting}."
            for owner in dict.fromkeys((self, optimizer, getattr(optimizer, "inner_optimizer", optimizer)))
            for setting, words in _refused_to(owner).items()
            if getattr(owner, setting, None) not in (None, False)
        ]
        if wrong:
            raise ValueError("\n".join(wrong))

    def make_train_function(self, force=False):
        """Makes what `fit` calls for each `steps_per_execution` steps."""
        if force or self.train_function is None:
            self.train_function = self._function(self.train_step)

    def make_test_function(self, force=False):
        """Makes what `evaluate` calls for each `steps_per_execution` steps."""
        if force or self.test_function is None:
            self.test_function = self._function(self.test_step)

    def make_predict_function(self, force=False):
        """Makes what `predict` calls with a list of `steps_per_execution` batches."""
        if force or self.predict_function is None:

            def predict(batches):
                outputs = [self._run(self.predict_step, batch, self._gather) for batch in batches]
                return keras.tree.map_structure(lambda *each: tf.concat(each, 0), *outputs)

            self.predict_function = self._compiled(predict)

    def _function(self, step):
        """Keras's own returns values of a step out of a loop, which works on one replica only."""

        def steps(iterator):
            for _ in tf.range(self.steps_per_execution - 1):
                self._run(step, next(iterator), self._mean)
            return self._run(step, next(iterator), self._mean)

        return self._compiled(steps)

    def _compiled(self, function):
        return function if self.run_eagerly else tf.function(function, reduce_retracing=True)

    def _run(self, step, batch, merge):
        return keras.tree.map_structure(merge, self.distribute_strategy.run(step, args=(batch,)))

    def _mean(self, value):
        return self.distribute_strategy.reduce("MEAN", value, axis=None)

    def _gather(self, value):
        return self.distribute_strategy.gather(value, axis=0)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds losses and metrics from the first replica's share; Keras averages shares, which may differ in size."""
        if iterator is not None:
            if (iterator.num_batches or 0) % self.steps_per_execution:
                raise ValueError(
                    "On several replicas, batches must fill whole executions: take a divisor of their number. "
                    f"Received: steps_per_execution={self.steps_per_execution} for {iterator.num_batches} batches."
                )
            iterator.reset()  # Keras keeps that of `validation_data`, run out
            _, _, batches = next(iter(iterator))
            first = lambda value: self.distribute_strategy.experimental_local_results(value)[0]  # noqa: E731
            data_batch = keras.tree.map_structure(first, next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)


def _refused_to(owner: keras.Model | keras.optimizers.Optimizer) -> dict[str, str]:
    return _REFUSED if getattr(owner, "sees_all_replicas", False) else _REFUSED | _REFUSED_TO_KERAS


def trainable(model: keras.Model, strategy: tf.distribute.Strategy) -> keras.Model:
    """What to compile and fit in place of a model: the model itself on one replica, else a `Trainer` around it.

    Args:
        model: a functional model, built in the strategy's scope. It remains what is saved and exported.
        strategy: the strategy.

    Returns:
        A `keras.Model` of the same layers and variables.

    Example:
    >>> strategy = tf.distribute.get_strategy()
    >>> model = keras_resnet.ResNet20()
    >>> trainable(model, strategy) is model
    True
    """
    if strategy.num_replicas_in_sync == 1:
        return model
    version = tuple(int(number) for number in keras.version().split(".")[:2])
    tested, next_one = (f"{_TESTED[0]}.{_TESTED[1] + more}" for more in (0, 1))
    if version > _TESTED:
        warnings.warn(
            f"Training on several replicas changes parts of Keras that were tested up to {tested}; this is "
            f"{keras.version()}. If it fails: pip install 'keras<{next_one}'.",
            stacklevel=2,
        )
    with strategy.scope():
        return Trainer(model.inputs, model.outputs, name=model.name)


def check(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Refuses a strategy that Keras cannot train with, and a batch that its replicas cannot share.

    What an optimiser may not have on several replicas, `Trainer.compile` refuses.

    Args:
        strategy: the strategy.
        batch_size: the global batch size.

    Example:
    >>> check(tf.distribute.get_strategy(), 7)
    """
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "Keras 3 does not train with parameter servers: take the strategy multi_worker. "
            f"Received: {type(strategy).__name__}."
        )
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            "Replicas must share a batch evenly, an image or more each: take a multiple of their number. "
            f"Received: batch_size={batch_size} for {replicas} replicas."
        )


def feed(
    strategy: tf.distribute.Strategy, batch_size: int, make: Callable[[int, int], tf.data.Dataset]
) -> tf.data.Dataset:
    """A data set as `fit`, `evaluate` and `predict` take it: the global batches are those of one device, row by row.

    Several workers have an input pipeline each, and each makes its own rows only. Keras's progress bar cannot count
    these: give `steps_per_epoch`, `validation_steps` or `steps`.

    Args:
        strategy: the strategy.
        batch_size: the global batch size; the replicas must share it evenly.
        make: a function of the number of a worker and of how many there are, to a data set of that worker's rows: of
            each global batch in turn, the rows from `worker * batch_size / workers` on.

    Returns:
        `make(0, 1)` where one pipeline feeds all replicas (Keras deals its batches out), else a distributed data set.

    Example:
    >>> data = tf.data.Dataset.range(8)
    >>> [rows.tolist() for rows in feed(tf.distribute.get_strategy(), 4, lambda *_: data.batch(4)).as_numpy_iterator()]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    workers = getattr(strategy.extended, "num_hosts", place(strategy)[1])  # a TPU has hosts, under one process
    if workers == 1:
        return make(0, 1)
    # Not `experimental_distribute_dataset`: with auto-sharding it deals out examples in another order or, switched off,
    # gives every worker all of them.
    share = batch_size // strategy.num_replicas_in_sync
    return strategy.distribute_datasets_from_function(
        lambda context: make(context.input_pipeline_id, context.num_input_pipelines).rebatch(share, drop_remainder=True)
    )


def averaging(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[[], None]:
    """What gives all replicas the mean of their moving means and variances, in place; made once, for all calls.

    Each replica moves its own, and a file has the first one's. All workers must call it, not the chief alone.

    Args:
        model: a model of the strategy's scope; nothing changes where its batch norms are synchronised.
        strategy: the strategy.

    Returns:
        The function to call.

    Example:
    >>> average = averaging(keras_resnet.ResNet20(), tf.distribute.get_strategy())
    >>> average()
    """
    statistics = [variable for variable in model.variables if variable.name in ("moving_mean", "moving_variance")]
    if strategy.num_replicas_in_sync == 1 or not statistics:
        return lambda: None

    def average():
        own = [tf.identity(variable.value) for variable in statistics]
        for variable, mean in zip(statistics, tf.distribute.get_replica_context().all_reduce("MEAN", own)):
            variable.assign(mean)

    return tf.function(lambda: strategy.run(average))


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether any worker raises its flag. All workers must ask, at the same step.

    A worker that stops alone leaves the others waiting for its gradients: so they agree on the step to stop at.

    Example:
    >>> any_worker(tf.distribute.get_strategy(), True)
    True
    """
    if place(strategy)[1] == 1:
        return flag
    return bool(strategy.reduce("SUM", tf.constant(float(flag)), axis=None) > 0)


def same(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Whether all workers have the same number. All workers must ask.

    Example:
    >>> same(tf.distribute.get_strategy(), 7)
    True
    """
    workers = place(strategy)[1]
    if workers == 1:
        return True
    mean = strategy.reduce("MEAN", tf.constant(float(number), tf.float64), axis=None)
    return not any_worker(strategy, abs(float(mean) - number) > 0.5 / workers)


@contextlib.contextmanager
def lost_worker_explained(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says what TensorFlow's errors mean when another worker has gone: a context for `fit`.

    Example:
    >>> with lost_worker_explained(tf.distribute.get_strategy()):
    ...     pass
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if place(strategy)[1] == 1:
            raise
        raise RuntimeError(
            "Another worker has ended or cannot be reached: its own output says why. End all workers and start them "
            "again with the same command: training goes on from the last checkpoint. "
            f"Received: {type(error).__name__}."
        ) from error
