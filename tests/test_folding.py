"""Folding batch norms: exact for every kind of network in the table, and for graphs that want care."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import REDUCED, small, trained

import keras_resnet
from keras_resnet import models
from keras_resnet.export.folding import fold_batch_norms
from keras_resnet.export.network import frozen_network

IMAGES = np.random.default_rng(0).normal(size=(2, 37, 32, 3)).astype("float32")


def batch_norms(model):
    nested = (batch_norms(layer) for layer in model.layers if isinstance(layer, keras.Model))
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers) + sum(nested)


def difference(model, folded):
    """The largest, as a share of the largest activation."""
    expected, received = (np.array(network(IMAGES, training=False)["stage2"]) for network in (model, folded))
    return np.abs(expected - received).max() / np.abs(expected).max()


def features(architecture, **settings):
    return trained(keras_resnet.build(architecture, features=True, input_shape=(None, None, 3), **settings))


@pytest.mark.parametrize("name", REDUCED)
def test_every_kind_of_network_is_folded(name):
    architecture = REDUCED[name]
    exact = features(architecture, dtype="float64")
    folded = fold_batch_norms(exact, "float64")
    assert difference(exact, folded) < 1e-13
    assert difference(exact, fold_batch_norms(exact)) < 1e-5
    if not architecture.preactivation:
        assert batch_norms(folded) == 0
    else:  # those that follow an addition or the stem's max pool
        pooled = architecture.stem != "cifar"
        assert batch_norms(folded) == sum(architecture.depths) + pooled


def test_the_graph_has_no_trace_of_a_batch_norm():
    model, card = small()
    graph = frozen_network(model, card).graph
    operations = [node.op for node in graph.as_graph_def().node]
    assert operations.count("Conv2D") == 7
    assert not {"Rsqrt", "FusedBatchNormV3", "ReadVariableOp", "VarHandleOp"} & set(operations)
    outputs = frozen_network(model, card, fold=False)(tf.zeros((1, 24, 24, 3)))
    folded = frozen_network(model, card)(tf.zeros((1, 24, 24, 3)))
    np.testing.assert_allclose(folded["probabilities"], outputs["probabilities"], atol=1e-6)
    with pytest.raises(ValueError, match="fold=True"):
        frozen_network(model, card, "bfloat16", fold=False)


@pytest.mark.parametrize("preactivation", [False, True])
def test_nested_models_stay_nested(preactivation, monkeypatch):
    monkeypatch.setattr(models, "_BLOCKS_PER_MODEL", 2)
    settings = {"stem": "cifar", "depths": (5, 1), "widths": (8, 16), "preactivation": preactivation}
    model = features(keras_resnet.Architecture(**settings))
    folded = fold_batch_norms(model)
    assert sum(isinstance(layer, keras.Model) for layer in folded.layers) == 3
    assert difference(model, folded) < 1e-5
    assert batch_norms(folded) == (7 if preactivation else 0)


def test_whatever_the_policy_the_network_is_folded_into_float32():
    architecture = REDUCED["SEResNet50"]
    model, mixed = features(architecture), features(architecture, dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    assert difference(model, fold_batch_norms(mixed)) < 1e-5


@pytest.mark.parametrize("name", ["ResNet50D", "ResNet50V2"])
def test_bfloat16_halves_the_weights(name):
    model = trained(keras_resnet.build(REDUCED[name], input_shape=(64, 64, 3), classes=3))
    folded = fold_batch_norms(model, "bfloat16")
    kernels = {v.dtype for layer in folded.layers if isinstance(layer, keras.layers.Conv2D) for v in layer.weights}
    assert kernels == {"bfloat16"}
    assert folded.output.dtype == "float32"
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(folded(images), model(images, training=False), atol=0.05)


def test_what_else_needs_the_convolution_gets_it_unfolded():
    inputs = keras.Input((8, 8, 3))
    convolved = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    once = keras.layers.BatchNormalization(name="once", scale=False)(convolved)
    twice = keras.layers.BatchNormalization(name="twice", center=False)(once)
    active = keras.layers.Conv2D(4, 1, activation="relu")(twice)
    after_relu = keras.layers.BatchNormalization(name="after_relu")(active)
    dropped = keras.layers.Dropout(0.5)(keras.layers.Concatenate()([convolved, twice, after_relu]))
    model = trained(keras.Model(inputs, {"stage2": keras.ops.negative(dropped)}))
    folded = fold_batch_norms(model)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(folded(images)["stage2"], model(images)["stage2"], atol=1e-5)
    kinds = [type(layer).__name__ for layer in folded.layers]
    assert (kinds.count("BatchNormalization"), kinds.count("Conv2D"), kinds.count("Dropout")) == (1, 3, 0)
