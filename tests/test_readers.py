"""The door: safetensors and npz that their own libraries have written, and every way in which a file can be wrong."""

import ast
import doctest
import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from golden.make_files import FILES, integers, values
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst
from weights_files import assert_same, refusal

from keras_resnet.weights import bounds, readers
from keras_resnet.weights.bounds import DTYPES
from keras_resnet.weights.readers import WeightsFileError, read, write_safetensors

pytestmark = pytest.mark.lower_house


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
