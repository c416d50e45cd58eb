"""Schedules are what their formulas say at every step, also after a resume."""

import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_resnet.training.schedules import (
    LearningRate,
    PiecewiseLR,
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


@pytest.mark.parametrize(("boundaries", "rates"), [([10], [0.1]), ([10, 10], [1, 2, 3]), ([20, 10], [1, 2, 3])])
def test_what_is_no_schedule_is_refused(boundaries, rates):
    with pytest.raises(ValueError, match=r"Received: boundaries=\("):
        piecewise(boundaries, rates)
    with pytest.raises(ValueError, match="steps=0"):
        cosine(0, 0.1)


def test_the_rate_of_every_step_is_the_schedules_also_when_training_goes_on():
    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(9.0), "mse")
    x, y, rates = np.ones((12, 1)), np.ones((12, 1)), []
    schedule = PiecewiseLR([4 / 3, 7 / 3], [0.3, 0.2, 0.1], steps_per_epoch=3)
    for epochs in (1, 2):  # the second call goes on where the first has stopped
        history = model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[schedule, Record()])
    np.testing.assert_allclose(rates, [0.3, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(history.history["learning_rate"], [0.2, 0.1])
    assert isinstance(schedule, LearningRate)
