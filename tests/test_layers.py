"""The fused batch norm is Keras's own in everything but speed."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_resnet import BatchNormalization, load_model
from keras_resnet.layers import VarianceScaling

pytestmark = pytest.mark.lower_house
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused kernel is TensorFlow's")


def normalised(layer_class, dtype, images, training=True, trainable=True, steps=1):
    """Outputs, gradients and variables of a layer after some steps, as float64 arrays."""
    import tensorflow as tf

    channels = images.shape[-1]
    random = np.random.default_rng(0)
    layer = layer_class(momentum=0.9, epsilon=1e-5, dtype=dtype)
    layer.build(images.shape)
    layer.trainable = trainable
    values = {
        "gamma": random.uniform(0.5, 1.5, channels),
        "beta": random.normal(size=channels),
        "moving_mean": random.normal(size=channels),
        "moving_variance": random.uniform(0.5, 1.5, channels),
    }
    for name, value in values.items():
        getattr(layer, name).assign(value)
    x = tf.constant(images, layer.compute_dtype)
    upstream = tf.constant(random.normal(size=images.shape), layer.compute_dtype)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch([x, layer.gamma.value, layer.beta.value])
            y = layer(x, training=training)
        gradients = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], output_gradients=upstream)
    results = [y, *gradients, layer.moving_mean, layer.moving_variance]
    return y.dtype.name, [keras.ops.convert_to_numpy(keras.ops.cast(result, "float64")) for result in results]


@on_tensorflow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("mixed_bfloat16", 1e-2), ("mixed_float16", 2e-3)])
@pytest.mark.parametrize(("training", "trainable"), [(True, True), (True, False), (False, True)])
def test_agrees_with_the_stock_layer_in_float64(dtype, tolerance, training, trainable):
    images = np.random.default_rng(1).normal(0.5, 2.0, (4, 5, 6, 8))
    rounded = keras.ops.convert_to_numpy(
        keras.ops.cast(keras.ops.cast(images, dtype.removeprefix("mixed_")), "float64")
    )
    kind, ours = normalised(BatchNormalization, dtype, rounded, training, trainable, steps=3)
    _, stock = normalised(keras.layers.BatchNormalization, "float64", rounded, training, trainable, steps=3)
    assert kind == dtype.removeprefix("mixed_")
    for mine, theirs in zip(ours, stock):
        assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


@on_tensorflow
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_any_shape_keeps_the_stock_statistics(shape, seed):
    """Down to one value a channel, where n / (n - 1) has no meaning."""
    images = np.random.default_rng(seed).normal(size=shape).astype("float32")
    _, ours = normalised(BatchNormalization, "float32", images)
    _, stock = normalised(keras.layers.BatchNormalization, "float32", images)
    for mine, theirs in zip(ours[-2:], stock[-2:]):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@on_tensorflow
def test_the_kernel_is_used_where_it_can_be_and_only_there():
    import tensorflow as tf

    def operations(layer, shape, dtype="float32"):
        traced = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec(shape, dtype))
        return {operation.type for operation in traced.graph.get_operations()}

    fused = "FusedBatchNormV3"
    assert fused in operations(BatchNormalization(), (None, None, None, 3))
    assert fused in operations(BatchNormalization(dtype="mixed_bfloat16"), (2, 4, 4, 3), "bfloat16")
    assert fused not in operations(keras.layers.BatchNormalization(), (2, 4, 4, 3))
    for layer, shape, dtype in [
        (BatchNormalization(dtype="float64"), (2, 4, 4, 3), "float64"),
        (BatchNormalization(axis=1), (2, 3, 4, 4), "float32"),
        (BatchNormalization(scale=False), (2, 4, 4, 3), "float32"),
        (BatchNormalization(synchronized=True), (2, 4, 4, 3), "float32"),
        (BatchNormalization(), (2, 3), "float32"),
    ]:
        assert fused not in operations(layer, shape, dtype)


def test_the_initialiser_is_normal_and_saved_as_the_stock_one():
    settings = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal", "seed": 3}
    ours, stock = VarianceScaling(**settings), keras.initializers.VarianceScaling(**settings)
    configs = [keras.saving.serialize_keras_object(each) for each in (ours, stock)]
    assert all(configs[0][key] == configs[1][key] for key in ("module", "class_name", "config"))
    shape = (3, 3, 300, 100)  # more numbers than one generator draws
    values = keras.ops.convert_to_numpy(ours(shape)).ravel()
    np.testing.assert_array_equal(values, keras.ops.convert_to_numpy(VarianceScaling(**settings)(shape)).ravel())
    assert len(np.unique(values)) > 0.98 * len(values)
    scaled = values / np.sqrt(2 / (3 * 3 * 100))
    quantiles = {0.001: -3.090, 0.1: -1.2816, 0.5: 0.0, 0.9: 1.2816, 0.999: 3.090}
    np.testing.assert_allclose(np.quantile(scaled, list(quantiles)), list(quantiles.values()), atol=0.05)
    for mode in ("fan_in", "fan_avg"):
        spreads = [
            keras.ops.convert_to_numpy(kind(2.0, mode=mode, distribution="untruncated_normal")((3, 3, 64, 256))).std()
            for kind in (VarianceScaling, keras.initializers.VarianceScaling)
        ]
        assert abs(spreads[0] / spreads[1] - 1) < 0.02


def test_is_saved_as_the_stock_layer_and_opened_as_ours(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, BatchNormalization(name="norm")(inputs))
    config = keras.saving.serialize_keras_object(model.get_layer("norm"))
    assert (config["module"], config["class_name"]) == ("keras.layers", "BatchNormalization")
    model.save(tmp_path / "norm.keras")
    assert type(keras.saving.load_model(tmp_path / "norm.keras").get_layer("norm")) is keras.layers.BatchNormalization
    assert type(load_model(tmp_path / "norm.keras").get_layer("norm")) is BatchNormalization
    assert type(keras.models.clone_model(model).get_layer("norm")) is BatchNormalization
