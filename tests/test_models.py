"""What `build` and the constructors promise: counts, shapes, dtypes, errors, and models that are Keras's own."""

import inspect
import pickle
import re
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import keras_resnet
from keras_resnet import Architecture
from keras_resnet.architectures import FAMILIES, NAMED, cost

pytestmark = pytest.mark.lower_house
TINY = {"stem": "cifar", "depths": (1, 1), "widths": (4, 8)}
IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def parameters(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights if "seed_generator" not in weight.path)


# TensorFlow builds every one but the deepest, which other tests build; other backends the smallest of each family.
BUILT = [name for name, row in NAMED.items() if sum(row.depths) < 50]
if keras.backend.backend() != "tensorflow":
    BUILT = [min(family, key=lambda name: cost(NAMED[name]).parameters) for family in FAMILIES.values()]


@pytest.mark.parametrize("name", BUILT)
def test_each_network_is_what_its_row_counts(name):
    model = keras_resnet.get_model(name)
    counted = cost(NAMED[name])
    assert parameters(model.trainable_weights) == counted.parameters
    assert parameters(model.non_trainable_weights) == counted.statistics
    assert model.name == name.lower()


architectures = st.builds(
    Architecture,
    stem=st.sampled_from(["imagenet", "cifar", "deep", "deep_strided"]),
    depths=st.lists(st.integers(1, 2), min_size=2, max_size=2).map(tuple),
    widths=st.sampled_from([(64, 128), (16, 32), (8, 64)]),
    block=st.sampled_from(["basic", "bottleneck"]),
    shortcut=st.sampled_from(["projection", "all", "none"]),
    stride_on=st.sampled_from(["1x1", "3x3"]),
    preactivation=st.booleans(),
    downsample=st.sampled_from(["convolution", "average"]),
    squeeze_excite=st.sampled_from([0.0, 0.25]),
)


@given(architecture=architectures, size=st.tuples(st.integers(9, 20), st.integers(9, 20)))
@settings(max_examples=15, deadline=None)
def test_any_combination_of_settings_builds_what_it_counts(architecture, size):
    model = keras_resnet.build(architecture, input_shape=(*size, 3), classes=3)
    counted = cost(architecture, classes=3)
    assert parameters(model.weights) == counted.parameters + counted.statistics
    features = model.get_layer("head_pool").input
    assert features.shape[1:3] == tuple(-(-edge // architecture.stride) for edge in size)
    assert multiply_adds(model) == cost(architecture, size[0], classes=3).multiply_adds or size[0] != size[1]


def multiply_adds(model):
    """Counted from the layers of the finished model: another way than the table's."""
    return sum(
        int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
    )


@pytest.mark.parametrize("name", ["ResNet50", "ResNet56", "ResNet34", "SEResNet50", "ResNet50D", "ResNet164V2"])
def test_multiply_adds_of_the_built_model(name):
    assert multiply_adds(keras_resnet.get_model(name)) == cost(NAMED[name]).multiply_adds


def test_features_and_pooling():
    for name, strides in (("ResNet18", (4, 8, 16, 32)), ("ResNet50V2", (4, 8, 16, 32)), ("ResNet20", (1, 2, 4))):
        features = keras_resnet.get_model(name, features=True, input_shape=(64, 96, 3))
        assert {k: v.shape[1:3] for k, v in features.output.items()} == {
            f"stage{i}": (64 // stride, 96 // stride) for i, stride in enumerate(strides, 1)
        }
    assert keras_resnet.ResNet18(include_top=False).output_shape == (None, None, None, 512)
    assert keras_resnet.ResNet18(include_top=False, pooling="max").output_shape == (None, 512)
    assert keras_resnet.ResNet18().input_shape == (None, 224, 224, 3)
    assert keras_resnet.ResNet20().input_shape == (None, 32, 32, 3)


def test_features_are_what_the_head_pools():
    for order in ({}, {"preactivation": True}):
        model = keras_resnet.build(Architecture(**TINY, **order), classifier_activation=None)
        stages = keras_resnet.build(Architecture(**TINY, **order), features=True)
        stages.set_weights(model.get_weights()[:-2])
        pooled = numpy(stages(IMAGES)["stage2"]).mean((1, 2))
        kernel, bias = model.get_layer("predictions").get_weights()
        np.testing.assert_allclose(numpy(model(IMAGES)), pooled @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"preactivation": True}, {"squeeze_excite": 0.25, "downsample": "average"}])
def test_dense_head_shares_the_classifier(settings):
    model = keras_resnet.build(
        Architecture(**TINY, **settings), input_shape=(None, None, 3), classifier_activation=None
    )
    dense = keras_resnet.dense_head(model)
    assert {id(weight) for weight in dense.weights} == {id(weight) for weight in model.weights}
    larger = np.random.default_rng(1).normal(size=(2, 48, 40, 3)).astype("float32")
    for images in (IMAGES, larger):
        np.testing.assert_allclose(numpy(dense(images)).mean((1, 2)), numpy(model(images)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="with its top"):
        keras_resnet.dense_head(keras_resnet.build(Architecture(**TINY), include_top=False))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_a_policy_is_the_models_own(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where the whole process asks for it")
    model = keras_resnet.build(Architecture(**TINY, squeeze_excite=0.25, drop_path=0.2), dtype=dtype)
    policy = keras.dtype_policies.get(dtype)
    kinds = {layer.compute_dtype for layer in model.layers if "image" not in layer.name and "head" not in layer.name}
    assert kinds == {policy.compute_dtype, policy.variable_dtype}
    assert {weight.dtype for weight in model.trainable_weights} == {policy.variable_dtype}
    assert model.get_layer("predictions").compute_dtype == policy.variable_dtype
    assert keras.config.dtype_policy().name == "float32"


def test_input_tensor_and_channels():
    inputs = keras.Input((40, 32, 1))
    model = keras_resnet.build(Architecture(**TINY), input_tensor=keras.layers.Rescaling(1 / 255)(inputs), classes=3)
    assert (model.input_shape, model.output_shape) == ((None, 40, 32, 1), (None, 3))
    four = keras_resnet.ResNet18(input_shape=(None, None, 4))
    assert four.get_layer("stem_conv").kernel.shape == (7, 7, 4, 64)


def test_zero_channels_stand_where_they_are_asked_for():
    """The shortcut alone: the residual branch ends in a batch norm whose gamma is zero."""
    for where, ahead in (("after", 0), ("around", 8)):
        row = keras_resnet.cifar(8, zero_channels=where, zero_init_residual=True)
        stage1, stage2, _ = (numpy(stage) for stage in keras_resnet.build(row, features=True)(IMAGES).values())
        expected = np.zeros(stage2.shape)
        expected[..., ahead : ahead + 16] = stage1[:, ::2, ::2]
        np.testing.assert_array_equal(stage2, expected)


def test_zero_init_makes_each_block_the_identity():
    for order in ({}, {"preactivation": True}):
        row = Architecture(stem="cifar", depths=(3,), widths=(16,), zero_init_residual=True, **order)
        model = keras_resnet.build(row, include_top=False)
        first = keras.Model(model.input, model.get_layer("stem_conv").output)
        stem = np.maximum(numpy(first(IMAGES)) / np.sqrt(1 + 1e-5), 0)
        np.testing.assert_allclose(numpy(model(IMAGES)), stem, rtol=1e-4, atol=1e-5)


def test_drop_path_follows_the_linear_rule():
    row = Architecture(stem="cifar", depths=(2, 2), widths=(4, 8), drop_path=0.4)
    model = keras_resnet.build(row)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4])
    dropped = keras_resnet.build(Architecture(**TINY, drop_path=0.9), include_top=False)
    answers = numpy(dropped(np.repeat(IMAGES[:1], 64, axis=0), training=True))
    assert 2 <= len(np.unique(answers.reshape(64, -1).round(4), axis=0)) <= 4  # whole branches of whole examples


def test_initialisation_is_he_normal_by_fan_out():
    keras.utils.set_random_seed(0)
    model = keras_resnet.ResNet50(weights=None)
    for name, fan_out in (
        ("stem_conv", 7 * 7 * 64),
        ("stage4_block2_conv2", 3 * 3 * 512),
        ("stage4_block2_conv3", 2048),
    ):
        kernel = numpy(model.get_layer(name).kernel)
        assert abs(kernel.std() / np.sqrt(2 / fan_out) - 1) < 0.02
        assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated
    twin = numpy(model.get_layer("stage4_block3_conv2").kernel)
    assert not np.array_equal(twin, numpy(model.get_layer("stage4_block2_conv2").kernel))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}
    assert all(not layer.use_bias for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


def test_names_and_patterns():
    assert keras_resnet.list_models("resnet_50*") == ["ResNet50", "ResNet50V2", "ResNet50D"]
    assert keras_resnet.get_model("wide-resnet28_10", include_top=False).name == "wideresnet28_10"
    assert set(keras_resnet.list_models()) <= set(dir(keras_resnet))
    assert pickle.loads(pickle.dumps(keras_resnet.ResNet50)) is keras_resnet.ResNet50


def test_each_argument_is_documented():
    for function in (keras_resnet.build, keras_resnet.ResNet50, keras_resnet.Plain20):
        documented = set(re.findall(r"^ +(?:\*\*)?(\w+): ", inspect.getdoc(function), re.MULTILINE))
        assert set(inspect.signature(function).parameters) <= documented
        assert ">>> keras_resnet." in function.__doc__


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda: keras_resnet.get_model("resnet5O"), ValueError, "'ResNet50'"),
        (lambda: keras_resnet.ResNet51, AttributeError, "'ResNet50'"),
        (lambda: keras_resnet.ResNet50(strid_on="3x3"), TypeError, "'stride_on'"),
        (lambda: keras_resnet.ResNet50(pooling="average"), ValueError, "'avg'"),
        (lambda: keras_resnet.ResNet50(pooling="avg", features=True), ValueError, "leave `pooling` out"),
        (lambda: keras_resnet.ResNet50(input_shape=(31, 224, 3)), ValueError, "at least 32.*ResNet20"),
        (lambda: keras_resnet.ResNet20(input_shape=(3, 32, 3)), ValueError, "at least 4"),
        (lambda: keras_resnet.ResNet50(input_shape=(224, 224)), ValueError, "height, width"),
        (lambda: keras_resnet.ResNet50(input_shape=(224, 224, None)), ValueError, "height, width"),
        (lambda: keras_resnet.ResNet50(classes=0), ValueError, "`classes`"),
        (lambda: keras_resnet.ResNet50(input_tensor=IMAGES), TypeError, "Keras tensor"),
        (
            lambda: keras_resnet.ResNet20(input_shape=(40, 40, 3), input_tensor=keras.Input((32, 32, 3))),
            ValueError,
            "disagree",
        ),
        (lambda: keras_resnet.build("resnet50"), TypeError, "get_model"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, complaint):
    with pytest.raises(error, match=complaint) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_32_pixels_on_an_imagenet_network_is_warned_of_where_it_is_called():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keras_resnet.ResNet18(input_shape=(32, 32, 3))
    ours = [warning for warning in caught if "keras_resnet.ResNet20" in str(warning.message)]
    assert len(ours) == 1
    assert ours[0].filename == __file__


def test_channels_first():
    """The same network in the other data format, where the backend can run it."""
    keras.config.set_image_data_format("channels_first")
    try:
        row = keras_resnet.cifar(8, preactivation=True, squeeze_excite=0.25)
        model = keras_resnet.build(row, classifier_activation=None)
        assert model.input_shape == (None, 3, 32, 32)
        stages = keras_resnet.build(
            Architecture(stem="imagenet", depths=(1, 1), widths=(64, 128), preactivation=True), features=True
        )
        assert stages.output["stage2"].shape[1] == 128
        dense = keras_resnet.dense_head(model)
        first = None if keras.backend.backend() == "tensorflow" else numpy(model(IMAGES.transpose(0, 3, 1, 2)))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert dense.output_shape == (None, 8, 8, 10)
    if first is not None:
        last = keras_resnet.build(row, classifier_activation=None)
        last.set_weights(model.get_weights())
        np.testing.assert_allclose(first, numpy(last(IMAGES)), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has it")
def test_sync_batch_norm_elsewhere_is_refused():
    with pytest.raises(ValueError, match="TensorFlow"):
        keras_resnet.ResNet20(sync_batch_norm=True)
