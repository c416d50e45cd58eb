"""Schedules are what their formulas say at every step, also after a resume."""

import json
import types

import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_resnet.training.schedules import (
    LearningRate,
    PiecewiseLR,
    Plateau,
    WarmUpUntilError,
    cosine,
    linearly_scaled,
    one_cycle,
    piecewise,
    warm_up,
)

pytestmark = pytest.mark.lower_house


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5, unique=True), st.integers(0, 1200))
def test_piecewise_agrees_with_kerass_own(boundaries, step):
    boundaries = sorted(boundaries)
    rates = [10.0**-i for i in range(len(boundaries) + 1)]
    # Keras's holds rates[0] up to and including the boundary; the paper divides *at* the boundary.
    theirs = keras.optimizers.schedules.PiecewiseConstantDecay([b - 1 for b in boundaries], rates)
    assert piecewise(boundaries, rates)(step) == pytest.approx(float(theirs(step)), rel=1e-6)


@given(st.integers(1, 1000), st.floats(0.001, 10), st.integers(0, 1500))
def test_cosine_agrees_with_kerass_own(steps, rate, step):
    theirs = keras.optimizers.schedules.CosineDecay(rate, steps)
    assert cosine(steps, rate)(step) == pytest.approx(float(theirs(step)), rel=1e-4, abs=1e-6 * rate)


def test_one_cycle_and_warm_up():
    cycle = [one_cycle(10, 0.8, warmup=0.4, final_rate=0.2)(step) for step in range(12)]
    np.testing.assert_allclose(cycle, [0, 0.2, 0.4, 0.6, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2])
    warm = [warm_up(4, cosine(8, 1.0), from_rate=0.1)(step) for step in range(9)]
    np.testing.assert_allclose(warm[:5], [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(warm[5:], [cosine(8, 1.0)(step) for step in range(5, 9)])
    assert linearly_scaled(0.1, 64) == 0.025


@pytest.mark.parametrize(("boundaries", "rates"), [([10], [0.1]), ([20, 10], [1, 2, 3])])
def test_what_is_no_schedule_is_refused(boundaries, rates):
    with pytest.raises(ValueError, match=r"Received: boundaries=\("):
        piecewise(boundaries, rates)
    with pytest.raises(ValueError, match="steps=0"):
        cosine(0, 0.1)


class Record(keras.callbacks.Callback):
    """The rate of each step, and the running accuracy after it."""

    def __init__(self):
        super().__init__()
        self.rates, self.accuracies = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        self.accuracies.append(float(logs.get("accuracy", 0)))


def classifier(optimizer=None):
    """One that begins with every answer wrong."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.set_weights([0.03 * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros(2)])
    model.compile(optimizer or keras.optimizers.SGD(9.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 2)).astype("float32")
Y = (X[:, 0] > X[:, 1]).astype("int32")


def rates(model, callback, epochs, initial_epoch=0):
    """The rates of the epochs, each of 12 steps."""
    record = Record()
    options = {"initial_epoch": initial_epoch, "epochs": epochs, "callbacks": [callback, record]}
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, validation_data=(X, Y), **options)
    return record.rates


def resumed(model, callback):
    """A new model and a state, from one that has been trained for a while."""
    again = classifier()
    again.set_weights(model.get_weights())
    again.optimizer.build(again.trainable_variables)
    for mine, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        mine.assign(keras.ops.convert_to_numpy(other))
    return again, json.loads(json.dumps(callback.get_state()))


def test_the_rate_of_every_step_is_the_schedules_also_when_training_goes_on():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(9.0), "mse")
    x, y, record = np.ones((12, 1)), np.ones((12, 1)), Record()
    schedule = PiecewiseLR([4 / 3, 7 / 3], [0.3, 0.2, 0.1], steps_per_epoch=3)
    for epochs in (1, 2):  # the second call goes on where the first has stopped
        history = model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[schedule, record])
    np.testing.assert_allclose(record.rates, [0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(history.history["learning_rate"], [0.2, 0.1])
    assert isinstance(schedule, LearningRate)


@given(st.lists(st.integers(0, 8), max_size=20), st.integers(1, 4), st.booleans())
def test_plateaus_are_where_keras_sees_them(values, patience, higher_is_better):
    optimizer = keras.optimizers.SGD(1.0)
    mode = "max" if higher_is_better else "min"
    theirs = keras.callbacks.ReduceLROnPlateau("val_error", 0.5, patience, mode=mode, min_delta=0.125)
    theirs.set_model(types.SimpleNamespace(optimizer=optimizer))
    theirs.on_train_begin()
    ours = Plateau(lambda step: 1.0, "val_error", higher_is_better, patience, min_delta=0.125, divisor=2)
    for epoch, value in enumerate(values):
        for callback in (theirs, ours):
            callback.on_epoch_end(epoch, {"val_error": value / 8})
        assert ours.rate(step=0) == float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def test_a_plateau_in_training_and_after_a_resume():
    def plateau():  # no accuracy is better than the first by 2: every second epoch is a plateau
        return Plateau(warm_up(12, piecewise([], [0.1]), from_rate=0.04), patience=2, min_delta=2)

    expected = [*np.linspace(0.04, 0.1, 13)[:12], *[0.1] * 24, *[0.01] * 24, *[0.001] * 12]
    model, first, second = classifier(), plateau(), plateau()
    before = rates(model, first, epochs=4)  # in the midst of waiting
    model, state = resumed(model, first)
    second.set_state(state)
    np.testing.assert_allclose([*before, *rates(model, second, epochs=6, initial_epoch=4)], expected, rtol=1e-6)


def test_what_is_not_logged_is_an_error():
    plateau = Plateau(piecewise([], [0.1]), "val_acuracy")
    plateau.on_epoch_end(0, {"loss": 1.0})  # not validated
    with pytest.raises(ValueError, match=r"val_loss, learning_rate. Received: 'val_acuracy'"):
        plateau.on_epoch_end(1, {"val_loss": 1.0})
    with pytest.raises(ValueError, match="Received: 'accuracy'"):
        WarmUpUntilError(piecewise([], [0.1])).on_train_batch_end(0, {"loss": 1.0})


def test_warm_up_until_an_error():
    def warm_up_until(error):
        return WarmUpUntilError(piecewise([24], [0.1, 0.02]), error=error)

    slow, record = classifier(), Record()
    slow.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[PiecewiseLR([], [0.01]), record])
    errors = 1 - np.array(record.accuracies)
    error = errors[:18].min() + 1e-4  # reached in the first 18 steps, but not at once
    reached = int(np.argmax(errors < error)) + 1
    assert reached > 1
    expected = np.array([0.01] * reached + [0.1] * (24 - reached) + [0.02] * 12)
    model, first, second = classifier(), warm_up_until(error), warm_up_until(-1.0)
    before = rates(model, first, epochs=2)
    model, state = resumed(model, first)
    second.set_state(state)  # it is warm: the error that it cannot reach is not looked at
    np.testing.assert_allclose([*before, *rates(model, second, epochs=1)], expected, rtol=1e-6)


def test_steps_that_a_loss_scale_skips_count():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(9.0), 2.0**100, dynamic_growth_steps=1)
    model, first = classifier(optimizer), LearningRate(float)  # doubles until it overflows, and again
    assert rates(model, first, epochs=4) == list(range(48))
    skipped = 48 - int(keras.ops.convert_to_numpy(optimizer.iterations))
    assert first.get_state() == {"skipped": skipped}
    assert skipped > 0
    second = LearningRate(float)  # as in another process, which has restored the model
    second.set_state(first.get_state())
    assert rates(model, second, epochs=1) == list(range(48, 60))
    assert rates(model, second, epochs=1) == list(range(60, 72))


def test_states_and_executions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"LearningRate has the state skipped. Received: skipped, best"):
        LearningRate(float).set_state({"skipped": 0, "best": 1.0})
    model = classifier()
    model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=2)
    with pytest.raises(ValueError, match=r"steps_per_execution=1. Received: 2"):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[LearningRate(float)])


def test_the_papers_that_warm_up():
    goyal = warm_up(5 * 10, piecewise([300, 600, 800], [3.2, 0.32, 0.032, 0.0032]), from_rate=0.1)
    assert [goyal(step) for step in (0, 25, 50, 299, 300, 899)] == pytest.approx([0.1, 1.65, 3.2, 3.2, 0.32, 0.0032])
    a3 = warm_up(50, cosine(1000, 8e-3, final_rate=1e-6), from_rate=1e-4)
    assert [a3(step) for step in (0, 500, 1000)] == pytest.approx([1e-4, (8e-3 + 1e-6) / 2, 1e-6])
