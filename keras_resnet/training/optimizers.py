"""Optimisers that decay kernels only, as part of the step: the paper's SGD, and LAMB for large batches; loss scaling.

Keras's own weight decay is another: it shrinks the variables beside the step. For averages of the weights take
`keras_resnet.training.averaging`: Keras's `use_ema` overwrites the model at the end of every `fit`.
"""

import math

import keras


class _Shared:
    """What the optimisers share: which variables are decayed, that Keras's own decay does nothing, and what is clipped.

    The rule goes by names and needs no `exclude_from_weight_decay`, which Keras does not save.
    """

    sees_all_replicas = True  # its clipping is of the whole batch's gradient

    def build(self, variables):
        """Sees to it which variables are decayed: by their names, which a backend's own variables do not have."""
        super().build(variables)
        self._is_decayed = [self.decay_all or variable.name == "kernel" for variable in variables]

    def _decay(self, variable):
        """The weight decay's share of a step of the variable; None if it has none."""
        if not self.weight_decay or not self._is_decayed[self._get_variable_index(variable)]:
            return None
        return keras.ops.cast(self.weight_decay, variable.dtype) * keras.ops.convert_to_tensor(variable)

    def _apply_weight_decay(self, variables):
        """Nothing: it is in the step already."""

    def _clip_gradients(self, gradients):
        """On TensorFlow not yet: here a replica has the gradient of its own images only."""
        return gradients if keras.backend.backend() == "tensorflow" else super()._clip_gradients(gradients)

    def _all_reduce_sum_gradients(self, gradients_and_variables):
        """Clips the sum over the replicas, the gradient of the whole batch; only TensorFlow's optimisers call this."""
        gradients, variables = zip(*super()._all_reduce_sum_gradients(gradients_and_variables))
        return list(zip(super()._clip_gradients(gradients), variables))

    def get_config(self):
        """The arguments, for saving."""
        return super().get_config() | {"decay_all": self.decay_all}


@keras.saving.register_keras_serializable("keras_resnet")
class SGD(_Shared, keras.optimizers.SGD):
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
        momentum_correction: whether the momentum sums gradients, as PyTorch's does, and a new rate holds for all of it
            at once (Goyal et al. 2017). Caffe's and Keras's sums steps, each with the rate of its time.
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
        momentum_correction: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, nesterov, weight_decay=weight_decay, **kwargs)
        self.decay_all = decay_all
        self.momentum_correction = momentum_correction

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        gradient = keras.ops.cast(gradient, variable.dtype)
        decay = self._decay(variable)
        if decay is not None:
            gradient = gradient + decay
        if self.momentum_correction and self.momentum:
            self._corrected_step(gradient, variable, keras.ops.cast(learning_rate, variable.dtype))
        else:
            super().update_step(gradient, variable, learning_rate)

    def _corrected_step(self, gradient, variable, learning_rate):
        stored = self.momentums[self._get_variable_index(variable)]
        momentum = keras.ops.cast(self.momentum, variable.dtype)
        summed = momentum * stored + gradient
        self.assign(stored, summed)
        self.assign_sub(variable, learning_rate * (gradient + momentum * summed if self.nesterov else summed))

    def get_config(self):
        """The arguments, for saving."""
        return super().get_config() | {"momentum_correction": self.momentum_correction}


@keras.saving.register_keras_serializable("keras_resnet")
class Lamb(_Shared, keras.optimizers.Lamb):
    """LAMB (You et al. 2019): each kernel's step has the length of the kernel times the rate.

    Keras's own leaves the weight decay out of the step whose length is adapted; the paper's algorithm 2 has it inside.
    Variables that are not decayed take Adam's step as it is, as with the authors and timm.

    Args:
        learning_rate: the rate.
        beta_1: the momentum of the gradient's mean.
        beta_2: that of its square's.
        epsilon: is added to the root of the square's.
        weight_decay: the decay.
        decay_all: whether all variables are decayed and adapted.
        **kwargs: Keras's; timm's recipes have `global_clipnorm=1.0`, which is of the whole batch's gradient.

    Example:
    >>> model = keras_resnet.ResNet20()
    >>> model.compile(Lamb(8e-3, weight_decay=0.02), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: float = 5e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float | None = 0.02,
        decay_all: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, **kwargs)
        self.decay_all = decay_all

    def update_step(self, gradient, variable, learning_rate):
        """One step of one variable."""
        ops, index = keras.ops, self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        mean = self._average(self._momentums[index], gradient, self.beta_1)
        square = self._average(self._velocities[index], ops.square(gradient), self.beta_2)
        step = mean / (ops.sqrt(square) + self.epsilon)
        decay = self._decay(variable)
        if decay is not None:
            step = step + decay
            own, its = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, step))
            step = step * ops.where((own > 0) & (its > 0), own / ops.where(its > 0, its, 1), 1)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)

    def _average(self, stored, value, beta: float):
        """Moves an average on, and gives it without its bias towards the 0 that it began with."""
        moved = stored + (value - stored) * (1 - beta)
        self.assign(stored, moved)
        count = keras.ops.cast(self.iterations + 1, value.dtype)
        return moved / -keras.ops.expm1(count * math.log(beta))  # 1 - beta ** count, to float32's last digits


@keras.saving.register_keras_serializable("keras_resnet")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling for float16, which on several replicas skips a step on all of them or on none.

    Keras's own asks one replica whether its gradient is finite; where another one's is not, all weights become NaN.

    Example:
    >>> model = keras_resnet.ResNet20(dtype="mixed_float16")
    >>> model.compile(LossScale(SGD(0.1)), "sparse_categorical_crossentropy", auto_scale_loss=False)
    """

    sees_all_replicas = True

    def check_finite(self, grads):
        """Whether the gradients are finite, on every replica."""
        finite = super().check_finite(grads)
        if keras.backend.backend() != "tensorflow":
            return finite
        import tensorflow as tf

        infinite = tf.cast(tf.logical_not(finite), tf.float32)
        return tf.distribute.get_replica_context().all_reduce("SUM", infinite) == 0
