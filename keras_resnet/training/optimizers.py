"""The paper's optimiser: SGD with momentum and a weight decay that is part of the gradient."""

import keras


class SGD(keras.optimizers.SGD):
    """Keras's SGD with coupled weight decay: `weight_decay * w` is added to each decayed variable's gradient.

    That is Caffe's and PyTorch's `weight_decay`, and the paper's 1e-4. Keras's own is decoupled, and
    `regularizers.L2(l)` has the gradient `2 * l * w`; this equals `L2(weight_decay / 2)` and does not show in the loss.

    The kernels of convolutions and of the classifier are decayed. The paper does not say which variables are;
    `decay_all` decays gammas, betas and biases too, as fb.resnet.torch does.

    Args:
        learning_rate: the rate.
        momentum: the momentum.
        nesterov: whether it is Nesterov's.
        weight_decay: the decay.
        decay_all: whether all variables are decayed.
        **kwargs: Keras's.

    Example:
    >>> model = keras_resnet.ResNet20()
    >>> model.compile(SGD(0.1, weight_decay=1e-4), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float | None = 1e-4,
        decay_all: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, nesterov, weight_decay=weight_decay, **kwargs)
        self.decay_all = decay_all

    def build(self, variables):
        """Sees to it which variables are decayed: by their names, which a backend's own variables do not have."""
        super().build(variables)
        self._is_decayed = [self.decay_all or variable.name == "kernel" for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        if self.weight_decay and self._is_decayed[self._get_variable_index(variable)]:
            decay = keras.ops.cast(self.weight_decay, gradient.dtype) * keras.ops.cast(variable, gradient.dtype)
            gradient = gradient + decay
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        """Nothing: it is in the gradient already."""

    def get_config(self):
        """The arguments, for saving."""
        return super().get_config() | {"decay_all": self.decay_all}
