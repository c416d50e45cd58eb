"""A saved model opens in plain Keras, in a process that cannot import this package, and answers the same."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import Architecture

pytestmark = pytest.mark.lower_house

PLAIN_KERAS = """
    import sys, types
    sys.modules["keras_resnet"] = None  # importing it raises
    import keras, numpy as np
    folder = sys.argv[1]
    for name in sys.argv[2:]:
        model = keras.saving.load_model(f"{folder}/{name}.keras")
        images = np.load(f"{folder}/{name}.npz")
        answer = keras.ops.convert_to_numpy(model(images["images"]))
        assert np.abs(answer - images["answer"]).max() <= 2e-2 * np.abs(images["answer"]).max(), name
        if "mixed" not in name:
            np.testing.assert_allclose(answer, images["answer"], rtol=1e-4, atol=1e-5)
        layers = [layer for layer in model.layers if layer.name == "stem_bn"]
        assert not layers or type(layers[0]) is keras.layers.BatchNormalization
    assert not any(name.startswith("keras_resnet.") for name in sys.modules)
"""


def small(**settings):
    """An ImageNet network of one narrow block a stage."""
    return Architecture(**{"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16), "block": "bottleneck"} | settings)


NETWORKS = {
    "cifar": (keras_resnet.cifar(20), {}),
    "cifar_mixed": (keras_resnet.cifar(14), {"dtype": "mixed_bfloat16"}),
    "imagenet": (small(), {}),
    "imagenet_mixed": (small(), {"dtype": "mixed_bfloat16"}),
    "plain": (small(shortcut="none"), {}),
    "identity_around": (keras_resnet.cifar(8, zero_channels="around"), {}),
    "v2": (small(preactivation=True), {}),
    "grouped": (small(widths=(64, 64, 64, 64), groups=4, group_width=4), {}),
    "se_d_drop": (small(stem="deep", downsample="average", squeeze_excite=0.25, drop_path=0.2), {}),
    "rs_mixed": (small(stem="deep_strided", squeeze_excite=0.25), {"dtype": "mixed_bfloat16"}),
    "nested": (Architecture(stem="cifar", depths=(51, 1), widths=(16, 16), shortcut="identity"), {}),
}
if keras.backend.backend() != "tensorflow":  # files are Keras's business, not the backend's: two will do
    NETWORKS = {name: NETWORKS[name] for name in ("cifar_mixed", "imagenet")}


def in_plain_keras(folder, *names):
    command = [sys.executable, "-c", textwrap.dedent(PLAIN_KERAS), str(folder), *names]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_every_kind_of_network_opens_in_plain_keras(tmp_path):
    for name, (architecture, arguments) in NETWORKS.items():
        size = architecture.stride if architecture.stem == "cifar" else 64
        model = keras_resnet.build(architecture, classes=3, input_shape=(size, size, 3), **arguments)
        for weight in model.weights:  # an untrained batch norm would hide that its statistics were lost
            if "moving" in weight.path:
                weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
        images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype("float32")
        np.savez(tmp_path / f"{name}.npz", images=images, answer=keras.ops.convert_to_numpy(model(images)))
        model.save(tmp_path / f"{name}.keras")
        reopened = keras_resnet.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each(images)) for each in (model, reopened)))
        assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    in_plain_keras(tmp_path, *NETWORKS)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a minute on one backend is enough")
def test_resnet_1202_builds_and_opens_in_plain_keras(tmp_path):
    model = keras_resnet.ResNet1202()
    assert model.count_params() == 19510906
    for weight in model.weights:  # else the signal grows by a half in each of 600 blocks
        if weight.name == "gamma":
            weight.assign(weight * 0.1)
    images = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype("float32")
    np.savez(tmp_path / "deep.npz", images=images, answer=keras.ops.convert_to_numpy(model(images)))
    model.save(tmp_path / "deep.keras")
    in_plain_keras(tmp_path, "deep")


def test_keras_can_do_with_these_models_what_it_does_with_its_own(tmp_path):
    model = keras_resnet.build(small(), classes=3, input_shape=(64, 64, 3))
    images = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")
    for copy in (keras.models.clone_model(model), keras.Model.from_config(model.get_config())):
        copy.set_weights(model.get_weights())
        answers = [keras.ops.convert_to_numpy(each(images)) for each in (model, copy)]
        np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert f"Total params: {model.count_params():,}" in "\n".join(lines)
    model.save_weights(tmp_path / "small.weights.h5")
    again = keras_resnet.build(small(), classes=3, input_shape=(64, 64, 3), weights=tmp_path / "small.weights.h5")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="drawn once is enough")
def test_plot_model(tmp_path):
    pytest.importorskip("pydot")
    import shutil

    if not shutil.which("dot"):
        pytest.skip("Graphviz's `dot` is not installed")
    keras.utils.plot_model(keras_resnet.build(small()), tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 1000


def test_fit_learns():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(32, 16, 16, 3)).astype("float32")
    labels = np.arange(32) % 2
    images[labels == 1, :, :8] += 1.0
    model = keras_resnet.build(keras_resnet.cifar(8), classes=2, input_shape=(16, 16, 3))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(images, labels, batch_size=16, epochs=8, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
