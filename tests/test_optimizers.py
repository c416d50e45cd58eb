"""The optimiser against L2 regularisation by Keras, and against the formula."""

import keras
import numpy as np
import pytest

from keras_resnet.training.optimizers import SGD

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


def test_it_can_be_saved():
    config = keras.optimizers.serialize(SGD(0.3, decay_all=True, weight_decay=5e-4))
    again = SGD.from_config(config["config"])
    assert (again.decay_all, again.weight_decay, again.momentum) == (True, 5e-4, 0.9)
