"""The optimisers against L2 regularisation by Keras, and against their formulas."""

import copy

import keras
import numpy as np
import pytest

from keras_resnet.training.optimizers import SGD, Lamb

pytestmark = pytest.mark.lower_house


def trained(optimizer, regularizer=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, kernel_regularizer=regularizer),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_regularizer=regularizer),
        ]
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(32, 6, 6, 2)).astype("float32"), random.integers(0, 3, 32)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_decay_is_half_of_it_as_l2(nesterov):
    ours = trained(SGD(0.1, 0.9, nesterov, weight_decay=0.02))
    theirs = trained(keras.optimizers.SGD(0.1, 0.9, nesterov), keras.regularizers.L2(0.01))
    decoupled = trained(keras.optimizers.SGD(0.1, 0.9, nesterov, weight_decay=0.02))
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
    assert max(np.abs(own - other).max() for own, other in zip(ours, decoupled, strict=True)) > 1e-3


def test_which_variables_are_decayed():
    for decay_all, expected in ((False, {"kernel"}), (True, {"kernel", "bias"})):
        layer = keras.layers.Dense(2, bias_initializer="ones")
        layer.build((None, 3))
        before = {variable.name: keras.ops.convert_to_numpy(variable).copy() for variable in layer.variables}
        optimizer = SGD(0.5, momentum=0.0, weight_decay=0.1, decay_all=decay_all)
        optimizer.apply([keras.ops.zeros(variable.shape) for variable in layer.variables], layer.variables)
        for variable in layer.variables:
            factor = 1 - 0.5 * 0.1 * (variable.name in expected)
            np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), before[variable.name] * factor, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(0.3, decay_all=True, momentum_correction=True), Lamb(0.3, decay_all=True)])
def test_optimisers_can_be_saved(optimizer):
    wrapped = keras.optimizers.LossScaleOptimizer(optimizer)
    for one in (optimizer, wrapped):
        config = keras.optimizers.serialize(one)
        again = keras.optimizers.deserialize(copy.deepcopy(config))  # Keras writes into it
        assert type(again) is type(one)
        assert keras.optimizers.serialize(again) == config
    assert again.inner_optimizer.decay_all


RATES = [0.1, 0.3, 0.3, 0.02]


def stepped(optimizer, kernel, bias, gradients):
    """Kernel and bias of a layer after steps with given gradients and `RATES`."""
    layer = keras.layers.Dense(kernel.shape[1])
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, bias])
    for rate, gradient in zip(RATES, gradients, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradient], layer.trainable_variables)
    return layer.get_weights()


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    arrays = [[random.normal(size=(3, 2)), random.normal(size=2)] for _ in range(1 + len(RATES))]
    (kernel, bias), *gradients = [[array.astype("float32") for array in pair] for pair in arrays]
    return kernel, bias, gradients


@pytest.mark.parametrize("nesterov", [False, True])
def test_corrected_momentum_is_pytorchs(problem, nesterov):
    kernel, bias, gradients = problem
    ours = stepped(SGD(1.0, 0.9, nesterov, weight_decay=0.02, momentum_correction=True), *problem)
    for own, weight, which, decay in zip(ours, (kernel, bias), (0, 1), (0.02, 0.0), strict=True):
        buffer = np.zeros_like(weight)
        for rate, gradient in zip(RATES, gradients, strict=True):
            decayed = gradient[which] + decay * weight
            buffer = 0.9 * buffer + decayed
            weight = weight - rate * (decayed + 0.9 * buffer if nesterov else buffer)
        np.testing.assert_allclose(own, weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_caffes(problem, nesterov):
    """And PyTorch's where the rate is constant: see the test above."""
    kernel, bias, gradients = problem
    ours = stepped(SGD(1.0, 0.9, nesterov, weight_decay=0.02), *problem)
    for own, weight, which, decay in zip(ours, (kernel, bias), (0, 1), (0.02, 0.0), strict=True):
        velocity = np.zeros_like(weight)
        for rate, gradient in zip(RATES, gradients, strict=True):
            step = rate * (gradient[which] + decay * weight)
            velocity = 0.9 * velocity + step
            weight = weight - (step + 0.9 * velocity if nesterov else velocity)
        np.testing.assert_allclose(own, weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("decay_all", "clip"), [(False, None), (True, None), (False, 0.5)])
def test_lamb_is_the_papers(problem, decay_all, clip):
    kernel, bias, gradients = problem
    ours = stepped(Lamb(1.0, weight_decay=0.1, decay_all=decay_all, global_clipnorm=clip), *problem)
    if clip:
        norms = [np.sqrt(sum(np.square(array).sum() for array in pair)) for pair in gradients]
        gradients = [[array * min(1, clip / norm) for array in pair] for pair, norm in zip(gradients, norms)]
    for own, weight, which, is_decayed in zip(ours, (kernel, bias), (0, 1), (True, decay_all), strict=True):
        mean = square = 0.0
        for count, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), start=1):
            mean = 0.9 * mean + 0.1 * gradient[which]
            square = 0.999 * square + 0.001 * gradient[which] ** 2
            step = (mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-6)
            if is_decayed:
                step = step + 0.1 * weight
                step = step * np.linalg.norm(weight) / np.linalg.norm(step)
            weight = weight - rate * step
        np.testing.assert_allclose(own, weight, rtol=1e-5, atol=1e-6)


def test_lamb_moves_what_is_zero(problem):
    kernel, bias, gradients = problem
    for weight in stepped(Lamb(1.0), 0 * kernel, 0 * bias, gradients):
        assert np.isfinite(weight).all()
        assert np.abs(weight).min() > 0
    still = stepped(Lamb(1.0, weight_decay=None), kernel, bias, [[0 * kernel, 0 * bias]] * len(RATES))
    np.testing.assert_array_equal(still[0], kernel)


def test_loss_scaling_leaves_the_decay_as_it_is_and_can_be_resumed():
    class Rate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / (1 + batch)

    def fit(optimizer, weights=None, variables=None, epochs=1):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        if weights:
            model.set_weights(weights)
            optimizer.build(model.trainable_variables)
            for variable, value in zip(optimizer.variables, variables, strict=True):
                variable.assign(value)
        model.fit(x, x[:, :1], batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=[Rate()])
        return model

    def scaled():
        # 2 ** 127 overflows in the first steps, which are skipped; it doubles after each three good ones
        return keras.optimizers.LossScaleOptimizer(
            SGD(0.05, weight_decay=0.1), initial_scale=2.0**127, dynamic_growth_steps=3
        )

    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32") * 4
    modest = keras.optimizers.LossScaleOptimizer(SGD(0.05, weight_decay=0.1), initial_scale=2.0**10)
    for own, other in zip(fit(SGD(0.05, weight_decay=0.1)).get_weights(), fit(modest).get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)
    whole, half = fit(scaled(), epochs=2), fit(scaled())
    assert int(half.optimizer.iterations) < 6
    saved = [keras.ops.convert_to_numpy(variable).copy() for variable in half.optimizer.variables]
    resumed = fit(scaled(), half.get_weights(), saved)
    assert float(resumed.optimizer.dynamic_scale) == float(whole.optimizer.dynamic_scale) != 2.0**127
    for own, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
