"""Averages against NumPy, also after a resume, in validation and at the end."""

import keras
import numpy as np
import pytest

from keras_resnet.training.averaging import Average

pytestmark = pytest.mark.lower_house

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 3)).astype("float32"), RANDOM.normal(size=(24, 1)).astype("float32")


class Record(keras.callbacks.Callback):
    """The weights after each step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


def new_model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(momentum=0.5)]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


def fit(model, *callbacks, epochs=1, **kwargs):
    options = {"batch_size": 4, "epochs": epochs, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    return model.fit(X, Y, **options, **kwargs).history


def values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_equal(these, those):
    for own, other in zip(these, those, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(("decay", "every"), [(0.9, 1), (0.5, 1), (0.3, 4)])
def test_the_averages_are_numpys(decay, every):
    model, record = new_model(), Record()
    average, expected = Average(model, decay, every), model.get_weights()
    fit(model, average, record, epochs=3)
    for move, weights in enumerate(record.weights[every - 1 :: every]):
        keep = min(decay**every, (1 + move) / (10 + move))
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, weights, strict=True)]
    assert len(average.variables) == 8  # two layers' weights, gamma, beta and the moving statistics; no seed
    for variable, value in zip(average.variables, expected, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), value, rtol=1e-5, atol=1e-6)


def test_validation_sees_the_averages_and_training_does_not():
    alone, model, record = new_model(), new_model(), Record()
    fit(alone, record, epochs=2)
    average = Average(model, 0.5, every=1)
    history = fit(model, average, epochs=2, validation_data=(X, Y))
    assert_equal(model.get_weights(), alone.get_weights())
    expected = values(average.variables)
    average.put_in()
    average.put_in()
    assert_equal(model.get_weights(), expected)
    averaged = model.evaluate(X, Y, verbose=0)
    assert averaged == pytest.approx(history["val_loss"][-1], rel=1e-5)
    assert averaged != pytest.approx(alone.evaluate(X, Y, verbose=0), rel=1e-3)
    assert model.evaluate(X, Y, verbose=0, callbacks=[average]) == averaged
    assert_equal(model.get_weights(), expected)
    fit(model, average)  # goes on with the model's own
    fit(alone)
    assert_equal(model.get_weights(), alone.get_weights())


@pytest.mark.parametrize("is_in", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(is_in):
    def resume(model, average, weights, averages, state):
        model.set_weights(weights)
        for variable, value in zip(average.variables, averages, strict=True):
            variable.assign(value)
        average.set_state(state)

    whole, half, resumed = new_model(), new_model(), new_model()
    for model in (whole, half, resumed):
        model.compile("sgd", "mse")  # nothing of its own to be saved
        model.layers[2].rate = 0
    expected, first, second = (Average(model, 0.8, every=4) for model in (whole, half, resumed))
    fit(whole, expected, epochs=2)
    fit(half, first)  # 6 steps: the averages are to move next after 2 more
    if is_in:
        first.put_in()
    resume(resumed, second, half.get_weights(), values(first.variables), first.get_state())
    fit(resumed, second)
    assert_equal(resumed.get_weights(), whole.get_weights())
    assert_equal(values(second.variables), values(expected.variables))


def test_what_is_no_average_is_refused():
    with pytest.raises(ValueError, match=r"Received: decay=1.0, every=1"):
        Average(new_model(), decay=1.0, every=1)
