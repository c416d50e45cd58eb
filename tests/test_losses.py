"""Losses against their formulas."""

import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_resnet.training.losses import get_loss

pytestmark = pytest.mark.lower_house


def formula(name, labels, logits):
    if name == "binary":
        return np.mean(np.logaddexp(0, logits) - labels * logits)
    return np.mean(np.logaddexp.reduce(logits, axis=1) - (labels * logits).sum(axis=1))


@pytest.mark.parametrize("name", ["cross_entropy", "binary"])
@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.1]))
def test_losses_are_their_formulas(name, seed, smoothing):
    random = np.random.default_rng(seed)
    logits, mixed = random.normal(size=(4, 5)), random.dirichlet(np.ones(5), size=4)
    loss, activation = get_loss(name, smoothing)
    probabilities = keras.activations.get(activation)(keras.ops.convert_to_tensor(logits))
    smoothed = mixed * (1 - smoothing) + smoothing / 5
    assert float(loss(mixed, probabilities)) == pytest.approx(formula(name, smoothed, logits), rel=1e-5)


def test_binary_in_a_model_and_its_file(tmp_path):
    loss, activation = get_loss("binary", 0.1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation)])
    model.compile("sgd", loss)
    x, y = np.ones((2, 3)), np.eye(4)[:2]
    value = model.evaluate(x, y, verbose=0)
    logits = x @ keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert value == pytest.approx(formula("binary", y * 0.9 + 0.025, logits), rel=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.label_smoothing == 0.1
    assert again.evaluate(x, y, verbose=0) == pytest.approx(value)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"'binray'.*'binary'"):
        get_loss("binray")
