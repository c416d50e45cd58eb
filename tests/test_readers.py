"""The door: every kind of file that its own library has written, and every way in which a file can be wrong."""

import ast
import doctest
import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from golden.make_files import FILES, integers, values
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from keras_resnet.weights import bounds, readers
from keras_resnet.weights.bounds import DTYPES, EXPANSION
from keras_resnet.weights.readers import WeightsFileError, read, write_safetensors

pytestmark = pytest.mark.lower_house


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable and found[name].dtype.isnative, name


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(WeightsFileError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    return str(refused.value)


# Keras ----------------------------------------------------------------------------------------------------------------


def network() -> keras.Model:
    """Layers whose keys Keras makes in every way: of one class, of many, in nested models, wrapped, in bfloat16."""

    def stage(name):
        inputs = keras.Input((8, 8, 4))
        x = keras.layers.Conv2D(4, 1, use_bias=False, name=f"{name}_conv")(inputs)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        return keras.Model(inputs, x, name=name)

    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1_conv")(inputs)
    x = keras.layers.BatchNormalization(name="conv1_bn")(x)
    for name in ("stage1", "stage2"):
        x = keras.ops.relu(stage(name)(x))
    x = keras.layers.Conv2DTranspose(2, 1, name="up")(x)
    x = keras.layers.PReLU(name="prelu")(x)
    x = keras.layers.Conv2D(2, 1, name="layers")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(2, name="inner"), name="each")(x)
    x = keras.layers.Flatten(name="flat")(x)
    outputs = keras.layers.Dense(3, dtype="bfloat16", name="logits")(x)
    model = keras.Model(inputs, outputs, name="network")
    random = np.random.RandomState(0)
    for variable in model.weights:
        variable.assign(random.standard_normal(variable.shape))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


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
    """A folder with the model in every format that Keras has."""
    folder = tmp_path_factory.mktemp("keras")
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "model.keras")
    model.save(folder / "legacy.h5")
    return folder


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


# safetensors ----------------------------------------------------------------------------------------------------------


@st.composite
def named_arrays(draw) -> dict[str, np.ndarray]:
    """Arrays of any type, shape and bits (NaNs of every kind too) under any names."""
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6, unique=True))
    arrays = {}
    for name in names:
        dtype = draw(st.sampled_from(sorted(DTYPES, key=str)))
        shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        size = int(np.prod(shape)) * dtype.itemsize
        data = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
        arrays[name] = (data & 1 if dtype.kind == "b" else data).view(dtype).reshape(shape)
    return arrays


@settings(max_examples=60, deadline=None)
@given(named_arrays())
def test_safetensors_come_back_bit_by_bit(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    if "__metadata__" in arrays:
        arrays = {"x": arrays["__metadata__"]}
    write_safetensors(path, arrays)
    found = read(path)
    assert_same(found, arrays)
    assert list(found) == list(arrays)


def test_the_official_package_reads_what_is_written(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    arrays = {**values(), "half": np.float16(1.5), "flags": np.array([True, False]), "none": np.zeros((2, 0))}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    write_safetensors(tmp_path / "x.safetensors", arrays, metadata={"author": "Zoë"})
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"author": "Zoë"}
        assert_same({name: file.get_tensor(name).copy() for name in file.keys()}, arrays)  # noqa: SIM118


def test_what_the_official_package_wrote_is_read():
    weight = values()["conv1.weight"]
    expected = {
        "float64": weight.astype(np.float64),
        "float16": weight.astype(np.float16),
        "bfloat16": weight.astype(ml_dtypes.bfloat16),
        "bool": weight > 0,
        "scalar": np.array(1.5, np.float32),
        **{kind: integers(kind) for kind in ("int64", "int32", "int16", "int8", "uint8")},
    }
    assert_same(read(FILES / "types.safetensors"), expected)


def test_writing_takes_any_layout_and_aligns_every_array(tmp_path):
    arrays = {
        "bytes": np.arange(3, dtype=np.int8),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "big": np.arange(3, dtype=">f4"),
        "step": np.arange(10, dtype=np.int16)[::3],
    }
    path = tmp_path / "x.safetensors"
    write_safetensors(path, arrays)
    for name, array in read(path).items():
        np.testing.assert_array_equal(array, arrays[name])
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert size % 8 == 0
    for entry in json.loads(path.read_bytes()[8 : 8 + size]).values():
        assert entry["data_offsets"][0] % {"F64": 8, "F32": 4, "I16": 2, "I8": 1}[entry["dtype"]] == 0


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"x": np.ones(3)})
    before = path.read_bytes()
    monkeypatch.setattr(readers.os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_safetensors(path, {"x": np.zeros(3)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arrays", "metadata"),
    [
        ({}, None),
        ({3: np.ones(2)}, None),
        ({"__metadata__": np.ones(2)}, None),
        ({"x": np.array(["text"])}, None),
        ({"x": np.array([object()])}, None),
        ({"x": np.ones(2, complex)}, None),
        ({"x": np.ones(2)}, {"epoch": 3}),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, arrays, metadata):
    with pytest.raises(ValueError, match="safetensors"):
        write_safetensors(tmp_path / "x.safetensors", arrays, metadata)
    assert not list(tmp_path.iterdir())


def safetensors_file(header: object, data: bytes = bytes(24)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2, 3), begin=0, end=24) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (safetensors_file({"x": entry()}, bytes(23)), "0 to 24 of 23"),
        (safetensors_file({"x": entry()}, bytes(25)), "bytes after the end"),
        (safetensors_file({"x": entry(begin=4, end=28)}, bytes(28)), "4 to 28 of 28, where 0"),
        (safetensors_file({"x": entry(), "y": entry(begin=12, end=36)}, bytes(36)), "12 to 36 of 36, where 24"),
        (safetensors_file({"x": entry(), "y": entry(begin=28, end=52)}, bytes(52)), "28 to 52 of 52, where 24"),
        (safetensors_file({"x": entry(), "y": entry()}), "0 to 24 of 24, where 24"),
        (safetensors_file({"x": entry(shape=(2, 4))}), "shape (2, 4) the bytes 0 to 24"),
        (safetensors_file({"x": entry(shape=(2**40, 2**40))}), "the bytes 0 to 24"),
        (safetensors_file({"x": entry(shape=(-2, -3))}), "where a shape belongs"),
        (safetensors_file({"x": entry(shape=(True, 6))}), "where a shape belongs"),
        (safetensors_file({"x": entry(shape=(2.0, 3))}), "where a shape belongs"),
        (safetensors_file({"x": entry(shape=[1] * 40)}), "where a shape belongs"),
        (safetensors_file({"x": entry(begin=-24, end=0)}), "the bytes -24 to 0"),
        (safetensors_file({"x": entry(begin=24, end=0)}), "the bytes 24 to 0"),
        (safetensors_file({"x": entry(begin=0.0, end=24.0)}), "the bytes 0.0 to 24.0"),
        (safetensors_file({"x": entry(dtype="F8_E4M3")}), "type 'F8_E4M3'; save it as one of BOOL, U8"),
        (safetensors_file({"x": {"dtype": "F32"}}), "KeyError: 'data_offsets'"),
        (safetensors_file({"x": 3}), "damaged"),
        (safetensors_file(b'{"x": {}, "x": {}}'), "one name twice"),
        (safetensors_file(b'{"x": '), "JSONDecodeError"),
        (safetensors_file(b'{"x": ' + b"[" * 10**5), "RecursionError"),
        (safetensors_file(b'{"x": \xff}'), "UnicodeDecodeError"),
        (safetensors_file({}, b""), "holds no arrays"),
        (safetensors_file({"__metadata__": {"a": "b"}}, b""), "holds no arrays"),
        (struct.pack("<Q", 10**6) + b'{"x": 1}', "too few for its header of 1000000"),
    ],
)
def test_safetensors_that_break_the_format_are_refused(tmp_path, content, reason):
    assert reason in refusal(tmp_path / "x.safetensors", content)


# npz ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_comes_back_bit_by_bit(tmp_path, save):
    arrays = {**values(), "turned": np.arange(6.0).reshape(2, 3).T, "none": np.zeros((0, 3)), "flag": np.array(True)}
    save(tmp_path / "x.npz", **arrays)
    assert_same(read(tmp_path / "x.npz"), arrays)
    save(tmp_path / "big.npz", x=np.arange(6, dtype=">f4"))
    assert_same(read(tmp_path / "big.npz"), {"x": np.arange(6, dtype=np.float32)})


def npz(**members: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return memory.getvalue()


def npy(array: np.ndarray, **header: object) -> bytes:
    memory = io.BytesIO()
    described = {**np.lib.format.header_data_from_array_1_0(array), **header}
    np.lib.format.write_array_header_1_0(memory, described)
    return memory.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npz(x=npy(np.ones(3), shape=(4,))), "declares 32 bytes for 'x.npy' and has 24"),
        (npz(x=npy(np.ones(3), shape=(10**15,))), "declares 8000000000000000 bytes"),
        (npz(x=npy(np.ones(3), shape=(-3,))), "where a shape belongs"),
        (npz(x=npy(np.ones(3)) + b"more"), "has 28"),
        (npz(x=npy(np.ones(3), descr="|O")), "type 'object'"),
        (npz(x=npy(np.array(["text"]))), "type '<U4'"),
        (npz(x=npy(np.ones(3, "f4,f4"))), "type"),
        (npz(x=npy(np.ones(3, ml_dtypes.bfloat16), descr="|V2")), "type '|V2'"),
        (npz(x=b"\x93NUMPY\x03\0"), "damaged"),
        (npz(x=b"text"), "damaged"),
        (npz(x=bytes(10**6)), "16 times the file's"),
        (npz(x=npy(np.zeros(10**6))), "16 times the file's"),
    ],
)
def test_npz_that_is_not_plain_arrays_is_refused(tmp_path, content, reason):
    assert reason in refusal(tmp_path / "x.npz", content)


def test_pickled_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(WeightsFileError, match="type 'object'"):
        read(tmp_path / "x.npz")


# What is no weights file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b'{"metadata": {}}', "is JSON"),
        (b"\x93NUMPY\x01\0", "single array"),
        (gzip.compress(b"weights", mtime=0), "gzip"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
        (b"cos\nsystem\n(S'true'\ntR.", "begins with b'cos"),
        (b"PK\x03\x04", "damaged or not a zip archive"),
        (npz(x=b"").replace(b"x.npy", b"x.txt"), "is a zip file of 'x.txt'"),
        (b"\x80", "damaged or not a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "ends at byte 8"),
        (b"RIFF....", "begins with b'RIFF"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, reason):
    assert reason in refusal(tmp_path / "x.pth", content)


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no weights file here"):
        read(tmp_path / "x.h5")


def test_folders_and_devices_are_refused(tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(WeightsFileError, match="is a folder or a device"):
            read(path)


@pytest.mark.parametrize("large", [False, True])
def test_an_endless_directory_is_refused_before_it_is_parsed(tmp_path, large):
    size = 2**24 + 1
    end = b"PK\5\6" + struct.pack("<8xIIH", 0xFFFFFFFF if large else size, 0, 0)
    record = b"PK\6\6" + struct.pack("<36xQ8x", size) + b"PK\6\7" + bytes(16)
    assert "more members" in refusal(tmp_path / "x.npz", b"PK\3\4" + bytes(80) + record * large + end)


def test_an_unusual_compression_is_refused(tmp_path):
    """LZMA's window is as large as the file says."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy(np.ones(3)))
    with pytest.raises(WeightsFileError, match="unusual compression"):
        read(tmp_path / "x.npz")


# Damage ---------------------------------------------------------------------------------------------------------------

GOLDEN = sorted(path.name for path in FILES.iterdir())
KERAS = ["model.weights.h5", "model.keras", "legacy.h5"]


@st.composite
def damage(draw, size: int) -> list[tuple[str, int, bytes]]:
    """A few changes to a file of `size` bytes: bytes replaced, a piece cut out, bytes put in, the end lost."""
    change = st.tuples(
        st.sampled_from(["replace", "insert", "cut", "end"]), st.integers(0, size), st.binary(max_size=8)
    )
    return draw(st.lists(change, min_size=1, max_size=4))


def damaged(content: bytes, changes: list) -> bytes:
    for kind, position, data in changes:
        rest = {"replace": position + len(data), "insert": position, "cut": position + 9, "end": len(content)}[kind]
        content = content[:position] + data + content[rest:]
    return content


@pytest.mark.parametrize("name", [*GOLDEN, *KERAS, "plain.npz", "packed.npz", "written.safetensors"])
def test_a_damaged_file_is_refused_or_well_formed(saved, tmp_path, name):
    """Whatever happens to a file, `read` gives arrays within the bound or its one exception with one line."""
    np.savez(saved / "plain.npz", **values())
    np.savez_compressed(saved / "packed.npz", **values())
    write_safetensors(saved / "written.safetensors", values())
    content = (FILES / name if name in GOLDEN else saved / name).read_bytes()
    path = tmp_path / name

    @settings(max_examples=60, deadline=None, database=None)
    @given(damage(len(content)))
    def check(changes):
        path.write_bytes(damaged(content, changes))
        try:
            arrays = read(path)
        except WeightsFileError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert arrays and all(isinstance(array, np.ndarray) for array in arrays.values())
            assert all(isinstance(name, str) and array.dtype in DTYPES for name, array in arrays.items())
            assert sum(array.nbytes for array in arrays.values()) <= EXPANSION * path.stat().st_size

    check()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\x89HDF\r\n\x1a\n" + bytes(88), b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{"]),
    st.binary(),
)
def test_random_bytes_are_refused(tmp_path_factory, start, rest):
    refusal(tmp_path_factory.getbasetemp() / "random", start + rest)


@pytest.mark.parametrize("name", [*GOLDEN, *KERAS])
def test_no_truncation_passes_unnoticed(saved, tmp_path, name):
    """Half a file is never half the weights."""
    original = FILES / name if name in GOLDEN else saved / name
    content = original.read_bytes()
    try:
        expected = read(original)
    except WeightsFileError:
        expected = None
    for size in range(0, len(content), max(1, len(content) // 50)):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(WeightsFileError):
            read(tmp_path / name)
    if expected:
        (tmp_path / name).write_bytes(content)
        assert_same(read(tmp_path / name), expected)


# The module -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [readers, bounds], ids=lambda module: module.__name__)
def test_the_examples_run(module):
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_reading_needs_numpy_and_nothing_heavier():
    """The packages' own `__init__` are left out: it is this part that stands alone."""
    code = """if True:
        import sys, types
        for name, folder in (("keras_resnet", sys.argv[1]), ("keras_resnet.weights", sys.argv[1] + "/weights")):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [folder]
        import keras_resnet.weights.readers
        print(sorted({"keras", "tensorflow", "torch", "jax", "h5py", "safetensors"} & sys.modules.keys()))
    """
    folder = Path(readers.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert ast.literal_eval(result.stdout) == []
