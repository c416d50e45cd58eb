"""Keras's own files, of every age: each layer's variables under the layer's own name."""

import io
import json
import re
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from weights_files import assert_same, network, save_in_every_format

from keras_resnet.weights.readers import WeightsFileError, read

pytestmark = pytest.mark.lower_house


def layered(model: keras.Model, prefix: str = "layers") -> dict[str, np.ndarray]:
    """What `read` should make of a model: each layer's own variables under its own name."""
    arrays = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            arrays |= layered(layer, f"{prefix}/{layer.name}/layers")
        elif isinstance(layer, keras.layers.Wrapper):
            arrays |= {f"{prefix}/{layer.name}/{layer.layer.name}/vars/{i}": v for i, v in numbered(layer.layer)}
        else:
            arrays |= {f"{prefix}/{layer.name}/vars/{i}": v for i, v in numbered(layer)}
    return arrays


def numbered(layer):
    return enumerate(map(keras.ops.convert_to_numpy, layer.trainable_weights + layer.non_trainable_weights))


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    return save_in_every_format(model, tmp_path_factory.mktemp("keras"))


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
def test_keras_layers_are_found_by_their_own_names(model, saved, name):
    arrays = read(saved / name)
    assert {
        "layers/conv1_conv/vars/0",
        "layers/stage2/layers/stage2_bn/vars/3",
        "layers/layers/vars/1",
    } <= arrays.keys()
    assert arrays["layers/logits/vars/0"].dtype == ml_dtypes.bfloat16
    assert_same(arrays, layered(model))


def without_names(archive: Path, path: Path, key: str = "layers") -> Path:
    """The `.keras` archive as older versions of Keras wrote it: the layers' names in its configuration alone."""
    with zipfile.ZipFile(archive) as source:
        config, weights = source.read("config.json"), io.BytesIO(source.read("model.weights.h5"))
    with h5py.File(weights, "r+") as file:
        paths = []
        file.visit(paths.append)
        for inner in reversed(paths):  # the innermost first
            file[inner].attrs.pop("name", None)
            if inner.endswith("layers") and key != "layers":
                file.move(inner, inner.removesuffix("layers") + key)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("config.json", config)
        target.writestr("model.weights.h5", weights.getvalue())
    return path


@pytest.mark.parametrize("key", ["layers", "_layer_checkpoint_dependencies"])
def test_names_come_from_the_configuration_where_the_weights_do_not_say_them(model, saved, tmp_path, key):
    arrays = read(without_names(saved / "model.keras", tmp_path / "old.keras", key))
    # The layer inside a wrapper is keyed by the wrapper's attribute, and the configuration's lists do not have it.
    expected = {name.replace("/inner/", "/layer/"): array for name, array in layered(model).items()}
    expected = {re.sub("layers/(?!vars)", f"{key}/", name): array for name, array in expected.items()}
    assert_same(arrays, expected)


def test_the_keys_of_all_keras_layers_are_foreseen():
    """Keras numbers layers by class, so each class needs the key that Keras makes of it."""
    from keras.src.utils.naming import to_snake_case

    from keras_resnet.weights.keras_files import _snake_case

    classes = [name for name, item in vars(keras.layers).items() if isinstance(item, type)]
    assert len(classes) > 100
    assert [_snake_case(name) for name in classes] == [to_snake_case(name) for name in classes]


def test_legacy_names_are_layer_and_variable(model, saved):
    arrays = read(saved / "legacy.h5")
    expected = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}
    assert_same(arrays, expected)
    assert {"conv1_conv/kernel", "stage1_bn/moving_variance"} <= arrays.keys()


def test_siblings_of_one_name_keep_their_keys(tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        for key, name in {"a": "dense", "b": "dense", "c": "other"}.items():
            file[f"{key}/vars/0"] = np.ones(3)
            file[f"{key}/vars"].attrs["name"] = name
    assert list(read(tmp_path / "x.weights.h5")) == ["a/vars/0", "b/vars/0", "other/vars/0"]


def test_one_name_for_two_arrays_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file["layers/a/b/vars/0"] = np.ones(3)
        file["layers/c/vars/0"] = np.ones(3)
        file["layers/c/vars"].attrs["name"] = "a/b"
    with pytest.raises(WeightsFileError, match="one name to two arrays"):
        read(tmp_path / "x.weights.h5")


def legacy(path: Path, layers: dict, inside: str = "/", cut: int = 1) -> Path:
    """A file as keras.applications publishes them, with its lists of names cut into `cut` pieces."""
    with h5py.File(path, "w") as file:
        root = file.require_group(inside)
        suffix = [""] if cut == 1 else range(cut)
        for i in suffix:
            root.attrs[f"layer_names{i}"] = np.array([name.encode() for name in layers])
        for layer, weights in layers.items():
            for i in suffix:
                root.require_group(layer).attrs[f"weight_names{i}"] = np.array([name.encode() for name in weights])
            for name in weights:
                root[layer][name] = np.ones(3, np.float32)
    return path


@pytest.mark.parametrize("inside", ["/", "/model_weights"])
@pytest.mark.parametrize("cut", [1, 3])
def test_legacy_files_of_every_age(tmp_path, inside, cut):
    layers = {
        "conv1": ["conv1/kernel:0", "conv1/bias:0"],  # Keras 2
        "res2a_branch2a": ["res2a_branch2a_W:0"],  # Keras 1
        "fc1000": ["kernel", "bias"],  # Keras 3.0 to 3.2
        "block/conv": ["block/conv/kernel:0"],  # a name with a slash
        "left": ["inner/kernel:0", "left_only/kernel:0"],  # two models with a layer of one name in each
        "right": ["inner/kernel:0"],
        "add": [],
    }
    assert set(read(legacy(tmp_path / "x.h5", layers, inside, cut))) == {
        *("conv1/kernel", "conv1/bias", "res2a_branch2a_W", "fc1000/kernel", "fc1000/bias", "block/conv/kernel"),
        *("left/inner/kernel", "left_only/kernel", "right/inner/kernel"),
    }


def test_shards_are_refused_with_their_index(tmp_path):
    layers = [keras.layers.Dense(300, name=f"d{i}") for i in range(2)]
    sharded = keras.Sequential([keras.Input((300,)), *layers])
    sharded.save_weights(tmp_path / "x.weights.json", max_shard_size=4e-4)
    with pytest.raises(WeightsFileError, match="index of sharded Keras weights"):
        read(tmp_path / "x.weights.json")
    with pytest.raises(WeightsFileError, match=r"is one shard of x\.weights\.json"):
        read(tmp_path / "x_00001.weights.h5")


def test_an_archive_without_weights_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", '{"config": {}}')
    with pytest.raises(WeightsFileError, match=r"lacks the member 'model\.weights\.h5'"):
        read(tmp_path / "x.keras")


def nested(depth: int) -> dict:
    layers = [{"class_name": "Functional", "config": {"name": "inner", **nested(depth - 1)}}] if depth else []
    return {"layers": layers}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"[" * 10**6, "RecursionError"),
        (b"[]", "TypeError"),
        (b'{"config": {"layers": [{}]}}', "KeyError"),
        (b"\xff", "UnicodeDecodeError"),
        (json.dumps({"config": nested(40)}).encode(), "too deep"),
    ],
    ids=["brackets", "list", "empty layer", "no text", "nested"],
)
def test_a_damaged_configuration_is_refused(tmp_path, saved, config, reason):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.write(saved / "model.weights.h5", "model.weights.h5")
    with pytest.raises(WeightsFileError, match=reason):
        read(tmp_path / "x.keras")
