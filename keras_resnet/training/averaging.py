"""A moving average of a model's weights, to be measured and kept in their place."""

import contextlib
from collections.abc import Callable, Iterator

import keras


class Average(keras.callbacks.Callback):
    """Averages a model's weights over the steps, exponentially; it is the averages that `fit` validates.

    Batch normalisation's moving statistics are averaged like the weights, as timm and torchvision do: the statistics
    of the last steps belong to the weights of the last steps. (Keras's `use_ema` leaves them as they are, and
    overwrites the weights at the end of every `fit`.) Training goes on with the model's own weights; after it,
    `put_in` puts the averages in their place.

    A checkpoint holds `variables`, besides `get_state()` and the model's weights.

    Args:
        model: the model that will be trained. The averages begin as its weights.
        decay: the share that an average keeps of itself in a step; less of the first weights, which are poor.
        every: averages move once in so many steps, by as much. A move costs some operations for each weight.
        before_moving: called before each move; where replicas have statistics of their own, what makes them the same.

    Example:
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> average = Average(model, decay=0.999)
    >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), callbacks=[average], verbose=0)
    >>> average.put_in()
    """

    def __init__(
        self,
        model: keras.Model,
        decay: float = 0.9999,
        every: int = 32,
        before_moving: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        if not 0 <= decay < 1 or every < 1:
            raise ValueError(f"An average needs 0 <= decay < 1 and every >= 1. Received: decay={decay}, every={every}.")
        self.network = model
        self.decay = decay
        self.every = every
        self.before_moving = before_moving
        self.variables = [
            keras.Variable(keras.ops.convert_to_numpy(weight), trainable=False, name=weight.name)
            for weight in self._weights()
        ]
        self._step = 0
        self._is_in = False

    def get_state(self) -> dict:
        """What a checkpoint needs besides `variables`, in values that JSON has.

        Example:
        >>> Average(keras_resnet.ResNet20()).get_state()
        {'step': 0, 'is_in': False}
        """
        return {"step": self._step, "is_in": self._is_in}

    def set_state(self, state: dict) -> None:
        """Takes back what `get_state` gave.

        Example:
        >>> Average(keras_resnet.ResNet20()).set_state({"step": 32, "is_in": False})
        """
        self._step, self._is_in = state["step"], state["is_in"]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Has the averages in the model for a while: a context."""
        stays = self._is_in
        self.put_in()
        try:
            yield
        finally:
            if not stays:
                self.take_out()

    def put_in(self) -> None:
        """Puts the averages into the model, and keeps the model's weights where the averages were."""
        if not self._is_in:
            self._swap()

    def take_out(self) -> None:
        """Undoes `put_in`."""
        if self._is_in:
            self._swap()

    def on_train_begin(self, logs=None):
        """Trains the model's own weights."""
        self.take_out()

    def on_train_batch_end(self, batch, logs=None):
        """Moves the averages, if it is time."""
        self._step += 1
        if self._step % self.every:
            return
        self.before_moving()
        moves = self._step // self.every
        keep = min(self.decay**self.every, moves / (9 + moves))  # 1/10, 2/11, ... as TensorFlow's averages begin
        for average, weight in zip(self.variables, self._weights(), strict=True):
            average.assign(average + (weight - average) * (1 - keep))

    def on_test_begin(self, logs=None):
        """Measures the averages."""
        self._stays = self._is_in
        self.put_in()

    def on_test_end(self, logs=None):
        """Leaves the model as it was."""
        if not self._stays:
            self.take_out()

    def _swap(self) -> None:
        for average, weight in zip(self.variables, self._weights(), strict=True):
            own = keras.ops.copy(weight)  # JAX gives away a weight's memory in each step: it may have one owner only
            weight.assign(average)
            average.assign(own)
        self._is_in = not self._is_in

    def _weights(self) -> list:
        _ = self.model  # what `fit` was called on, perhaps a wrapper: under JAX, this fetches its weights from the step
        return [weight for weight in self.network.weights if keras.backend.is_float_dtype(weight.dtype)]
