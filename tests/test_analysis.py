"""Numbers and pictures of networks and trainings, against counts by hand and brute-force NumPy."""

import json
import struct
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import (
    class_activation_map,
    cost,
    layer_responses,
    plot_curves,
    plot_panels,
    read_curve,
    recompute_statistics,
)
from keras_resnet.architectures import NAMED, Architecture

pytestmark = pytest.mark.lower_house
ORACLES = Path(__file__).parents[2] / "shared" / "oracles.json"
LOG = "epoch,accuracy,learning_rate,val_accuracy\n0,0.5,0.1,0.25\n1,0.75,0.1,NA\n2,0.9,0.1,0.5\n"


def write_log(path, text=LOG):
    path.write_text(text)
    return path


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_a_curve_is_the_error_in_percent(tmp_path):
    curve = read_curve(write_log(tmp_path / "log.csv"))
    assert curve.unit == "epochs"
    np.testing.assert_array_equal(curve.at, [1, 2, 3])
    np.testing.assert_allclose(curve.training, [50, 25, 10])
    np.testing.assert_array_equal(curve.test, [75, np.nan, 50])
    curve = read_curve(write_log(tmp_path / "log.csv", "epoch,accuracy,step\n0,0.5,391\n1,1,782\n"))
    assert curve.unit == "iterations"
    np.testing.assert_array_equal(curve.at, [391, 782])
    assert np.isnan(curve.test).all()


def test_curves_become_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    log = write_log(tmp_path / "log.csv")
    plot_curves({"ResNet-20": log, "ResNet-56": log}, tmp_path / "new" / "curves.png", title="CIFAR-10")
    plot_panels({"plain": {"20": log}, "residual": {"20": log}}, tmp_path / "panels.png")
    (one, height), (two, same) = (size_of_png(tmp_path / name) for name in ("new/curves.png", "panels.png"))
    assert (one < two, height) == (True, same)


def test_logs_that_cannot_be_drawn_are_refused(tmp_path):
    log = write_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match=r"empty\.csv"):
        read_curve(write_log(tmp_path / "empty.csv", "epoch,accuracy\n"))
    with pytest.raises(ValueError, match="columns epoch and accuracy"):
        read_curve(write_log(tmp_path / "other.csv", "epoch,loss\n0,1\n"))
    with pytest.raises(ValueError, match="one run at least"):
        plot_curves({}, tmp_path / "nothing.png")
    steps = write_log(tmp_path / "steps.csv", "epoch,accuracy,step\n0,0.5,391\n")
    with pytest.raises(ValueError, match="draw them apart"):
        plot_curves({"one": log, "other": steps}, tmp_path / "both.png")


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def batches(count=3, batch=6):
    return np.random.default_rng(1).normal(1, 2, (count, batch, 16, 16, 3)).astype("float32")


def randomized(model):
    """Statistics, gammas and betas as training might leave them."""
    random = np.random.default_rng(2)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def small(**settings):
    row = {"stem": "cifar", "depths": (1, 1), "widths": (16, 16), "shortcut": "identity"} | settings
    return randomized(keras_resnet.build(Architecture(**row), classes=3, input_shape=(16, 16, 3)))


def stored_counts():
    if not ORACLES.is_file():
        pytest.skip("the counts of the reference implementations do not lie in ../shared")
    return json.loads(ORACLES.read_text())


def test_cost_equals_the_oracles():
    oracles = stored_counts()
    for name, model, key, unit in (
        ("imagenet", keras_resnet.ResNet18(), "resnet18_B", 1e9),
        ("imagenet", keras_resnet.ResNet50(stride_on="3x3"), "resnet50_B", 1e9),
        ("cifar10_option_A", keras_resnet.ResNet56(), "resnet56", 1e6),
    ):
        counted, row = cost(model), oracles[name][key]
        assert counted.parameters == row["trainable"]
        assert counted.parameters + counted.statistics == row["total"]
        written = row.get("mmac") or row.get("gmac_v1_5") or row["gmac_v1"]
        assert counted.multiply_adds / unit == pytest.approx(written, abs=0.0501 if unit == 1e6 else 0.00051)


def test_cost_of_nested_grouped_shared_and_other_peoples_models():
    for row in (
        Architecture(stem="cifar", depths=(51,), widths=(16,)),
        Architecture(depths=(1, 1), widths=(64, 128), block="bottleneck", groups=4),
    ):
        model = keras_resnet.build(row)
        keras_resnet.dense_head(model)  # uses the classifier a second time, which is no part of this model
        assert cost(model) == keras_resnet.cost(row)
    any_size = keras_resnet.ResNet20(input_shape=(None, None, 3))
    assert cost(any_size, image_size=64) == keras_resnet.cost(NAMED["ResNet20"], 64)
    with pytest.raises(ValueError, match="image_size"):
        cost(any_size)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 6, 4)), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Dense(5)])
    assert cost(model).multiply_adds == 6 * 4 * (9 * 8) + 6 * 4 * (8 * 5)


def test_responses_are_the_deviations_behind_the_batch_norms():
    model, images = small(depths=(1, 2)), batches()
    norms = {name: name.replace("conv", "bn") for name in layer_responses(model, images[:1])}
    probe = keras.Model(model.input, [model.get_layer(norm).output for norm in norms.values()])
    outputs = [numpy(output) for output in probe(images.reshape(-1, 16, 16, 3))]
    found = layer_responses(model, images)
    assert [*found] == ["stem_conv"] + [
        f"stage{s}_block{b}_conv{c}" for s, b in ((1, 1), (2, 1), (2, 2)) for c in (1, 2)
    ]
    np.testing.assert_allclose([*found.values()], [output.std() for output in outputs], rtol=1e-4)


def test_responses_of_bottlenecks_and_under_preactivation():
    model = small(block="bottleneck", widths=(4, 4), shortcut="projection")
    assert [*layer_responses(model, batches(1))] == ["stem_conv", "stage1_block1_conv2", "stage2_block1_conv2"]
    model = small(preactivation=True)
    found = layer_responses(model, batches(1))
    behind = {"stage1_block1_conv1": "stage1_block1_bn2", "stage1_block1_conv2": "stage1_block1_conv2"}
    for name, layer in behind.items():
        output = numpy(keras.Model(model.input, model.get_layer(layer).output)(batches(1)[0]))
        assert found[name] == pytest.approx(output.std(), rel=1e-4)


def test_statistics_are_the_averages_of_the_batches():
    model, images = small(drop_path=0.5), batches()
    model.get_layer("stage2_block1_bn2").trainable = False
    before = {weight.path: numpy(weight) for weight in model.weights}
    expected = []
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for batch in images:  # with momentum 0 a moving average is the batch's own value
        one = keras.models.clone_model(model)
        one.set_weights(model.get_weights())
        for layer in one.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
            elif isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        one.get_layer("stage2_block1_bn2").trainable = False
        one(batch, training=True)
        expected.append([numpy(v) for layer in norms for v in one.get_layer(layer.name).non_trainable_variables[-2:]])
    stem = numpy(keras.Model(model.input, model.get_layer("stem_conv").output)(images.reshape(-1, 16, 16, 3)))
    assert recompute_statistics(model, images) == 3
    found = [numpy(v) for layer in norms for v in layer.non_trainable_variables[-2:]]
    for own, parts in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(own, np.mean(parts, axis=0), rtol=1e-4, atol=1e-5)
    per_batch = stem.reshape(3, -1, 16)
    np.testing.assert_allclose(numpy(norms[0].moving_mean), per_batch.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(norms[0].moving_variance), per_batch.var(1).mean(0), rtol=1e-4)
    for weight in model.weights:
        if not weight.name.startswith("moving_") or "stage2_block1_bn2" in weight.path:
            np.testing.assert_array_equal(numpy(weight), before[weight.path])
    assert {layer.momentum for layer in norms} == {0.9}
    with pytest.raises(ValueError, match="one batch at least"):
        recompute_statistics(model, [])


def test_the_mean_of_an_activation_map_is_the_logit():
    model, images = small(), batches(1)[0]
    logits = keras.Model(model.input, model.get_layer("head_pool").output)(images)
    classifier = model.get_layer("predictions")
    logits = numpy(logits) @ numpy(classifier.kernel) + numpy(classifier.bias)
    classes = [0, 1, 2, 0, 1, 2]
    maps = class_activation_map(model, images, classes)
    assert maps.shape == (6, 8, 8)
    expected = logits[range(6), classes] - numpy(classifier.bias)[classes]
    np.testing.assert_allclose(maps.mean((1, 2)), expected, rtol=1e-3, atol=1e-4)


def test_only_functional_models_are_taken_apart():
    class Mine(keras.Model):
        input_shape = (None, 8, 8, 3)

    with pytest.raises(TypeError, match="Mine"):
        cost(Mine())
