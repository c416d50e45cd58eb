"""Checkpoints as PyTorch writes them (made by `golden/make_files.py`), and as nobody should."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from golden.make_files import FILES, integers, values
from test_pickles import group, number, storage, tensor, text

from keras_resnet.weights.readers import WeightsFileError, read

pytestmark = pytest.mark.lower_house

FORMATS = [".pth", ".legacy.pth"]
CHECKPOINTS = Path(__file__).parents[2] / "shared" / "data" / "checkpoints"


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable and found[name].flags.c_contiguous, name


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("content", ["state_dict", "parameters", "compiled", "training", "ema_only"])
def test_a_state_dict_is_found_in_every_wrapping(content, ending):
    assert_same(read(FILES / f"{content}{ending}"), values())


def test_a_newer_pickle_protocol_is_read():
    assert_same(read(FILES / "protocol4.pth"), values())


@pytest.mark.parametrize("ending", FORMATS)
def test_an_averaged_model_loses_its_prefix_and_keeps_its_count(ending):
    assert_same(read(FILES / f"averaged{ending}"), {"n_averaged": np.array(0), **values()})


@pytest.mark.parametrize("ending", FORMATS)
def test_every_type_comes_back_bit_by_bit(ending):
    weight = values()["conv1.weight"]
    floats = {"float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "bool": None}
    expected = {name: weight.astype(dtype) if dtype else weight > 0 for name, dtype in floats.items()}
    expected |= {kind: integers(kind) for kind in ("int64", "int32", "int16", "int8", "uint8")}
    assert_same(read(FILES / f"types{ending}"), expected)


@pytest.mark.parametrize("ending", FORMATS)
def test_views_are_cut_from_the_storage_they_share(ending):
    weight = values()["conv1.weight"]
    expected = {
        "transposed": weight.transpose(2, 3, 1, 0),
        "sliced": weight[1:, :, ::2, 1],
        "whole": weight,
        "tied": weight,
        "last": weight.ravel()[-1],
        "expanded": np.broadcast_to(weight[0, 0, 0, 0], (2, 3)),
        "empty": np.zeros((0, 3), np.float32),
    }
    found = read(FILES / f"views{ending}")
    assert_same(found, expected)
    found["tied"][:] = 0
    np.testing.assert_array_equal(found["whole"], weight)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_tensors.pth", "but 'epoch', 'net'"),
        ("no_tensors.legacy.pth", "but 'epoch', 'net'"),
        ("whole_model.pth", "refuses global 'torch.nn.modules.batchnorm.BatchNorm2d'"),
    ],
)
def test_what_is_no_state_dict_is_refused_with_advice(name, reason):
    with pytest.raises(WeightsFileError, match=reason) as refused:
        read(FILES / name)
    assert "torch.save(model.state_dict(), ...)" in str(refused.value)


def new_format(path: Path, pickled: bytes, members: dict | None = None) -> Path:
    """A file of the new format with one storage "0" of 24 floats."""
    data = np.arange(24, dtype=np.float32).tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "data/0": data, **(members or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def old_format(path: Path, pickled: bytes, storages: bytes | None = None, keys=("0",), **system) -> Path:
    """A file of the old format with one storage "0" of 24 floats."""
    system = {"protocol_version": 1001, "little_endian": True, **system}
    start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    if storages is None:
        storages = struct.pack("<q", 24) + np.arange(24, dtype=np.float32).tobytes()
    path.write_bytes(start + pickled + pickle.dumps(list(keys), 2) + storages)
    return path


def checkpoint(**items: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(name) + item for name, item in items.items()) + b"u."


BOTH = pytest.mark.parametrize("make", [new_format, old_format])


@BOTH
def test_the_files_made_here_are_files(make, tmp_path):
    found = read(make(tmp_path / "x.pth", checkpoint(w=tensor((2, 3), (12, 4), 1))))
    np.testing.assert_array_equal(found["w"], np.arange(24).reshape(2, 3, 4)[:, :, 1])


@BOTH
def test_the_first_wrapper_that_has_tensors_wins(make, tmp_path):
    state = {name: tensor((1,), (1,), index) for index, name in enumerate("abcd")}
    wrapped = {
        "model_ema": b"}(" + text("a") + state["a"] + b"u",
        "state_dict": b"}",
        "model": b"}(" + text("b") + state["b"] + b"u",
        "w": state["c"],
    }
    assert list(read(make(tmp_path / "x.pth", checkpoint(**wrapped)))) == ["b"]


@BOTH
def test_prefixes_stay_where_not_all_names_have_them(make, tmp_path):
    names = {"module.w": tensor(), "w": tensor(), "_orig_mod.v": tensor()}
    assert list(read(make(tmp_path / "x.pth", checkpoint(**names)))) == list(names)


@BOTH
def test_tensors_of_the_optimizer_are_not_even_read(make, tmp_path):
    lost = storage(10**12, key="lost")
    inner = b"}(" + text("w") + tensor() + b"u"
    path = make(tmp_path / "x.pth", checkpoint(state_dict=inner, optimizer=tensor(of=lost, strides=(10**9, 1))))
    if make is new_format:
        assert list(read(path)) == ["w"]
    else:  # there all storages follow one another
        with pytest.raises(WeightsFileError, match="other storages"):
            read(path)


@BOTH
def test_a_tensor_repeated_without_end_is_refused(make, tmp_path):
    with pytest.raises(WeightsFileError, match="16 times the file's"):
        read(make(tmp_path / "x.pth", checkpoint(w=tensor((10**9, 2), (0, 1)))))


@BOTH
def test_many_tensors_on_one_storage_share_the_bound(make, tmp_path):
    many = {f"w{i}": tensor((24,), (1,)) for i in range(2000)}
    small = make(tmp_path / "x.pth", checkpoint(**many))
    assert len(read(small)) == 2000
    more = {f"w{i}": tensor((24, 100), (1, 0)) for i in range(2000)}
    with pytest.raises(WeightsFileError, match="16 times"):
        read(make(tmp_path / "y.pth", checkpoint(**more)))


@BOTH
@pytest.mark.parametrize("content", [b"N", b"]", b"K\x05", tensor(), b"}"], ids=["None", "list", "int", "tensor", "{}"])
def test_what_holds_no_dict_of_tensors_is_refused(make, content, tmp_path):
    with pytest.raises(WeightsFileError, match=r"not a dict of tensors|no tensors at its top"):
        read(make(tmp_path / "x.pth", b"\x80\x02" + content + b"."))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"byteorder": b"big"}, "big-endian"),
        ({"constants.pkl": b"\x80\x02)."}, "TorchScript program"),
        ({"data/0": b"short"}, "has 5 bytes for tensor 'w', too few"),
        ({"data/0": bytes(97)}, "has 97 bytes for tensor 'w'"),
        ({"data.pkl": bytes(2**24 + 1)}, "at most 16777216 make sense"),
    ],
)
def test_archives_that_contradict_themselves_are_refused(members, reason, tmp_path):
    with pytest.raises(WeightsFileError, match=reason):
        read(new_format(tmp_path / "x.pth", checkpoint(w=tensor()), members))


def test_a_storage_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsFileError, match="lacks the member 'archive/data/7'"):
        read(new_format(tmp_path / "x.pth", checkpoint(w=tensor(of=storage(key="7")))))


def test_a_storage_key_does_not_lead_out_of_the_archive(tmp_path):
    with pytest.raises(WeightsFileError, match=r"lacks the member 'archive/data/\.\./\.\./etc/passwd'"):
        read(new_format(tmp_path / "x.pth", checkpoint(w=tensor(of=storage(key="../../etc/passwd")))))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"little_endian": False}, "big-endian"),
        ({"storages": struct.pack("<q", 25) + bytes(100)}, "another size for storage '0'"),
        ({"storages": struct.pack("<q", 24) + bytes(95)}, r"has \d+ of its \d+ bytes"),
        ({"storages": b""}, "another size"),
        ({"keys": ()}, "other storages"),
        ({"keys": ("0", "1")}, "other storages"),
        ({"keys": ("0", "0")}, "another size|other storages"),
        ({"keys": (0,)}, "other storages"),
    ],
)
def test_old_files_that_contradict_themselves_are_refused(arguments, reason, tmp_path):
    with pytest.raises(WeightsFileError, match=reason):
        read(old_format(tmp_path / "x.pth", checkpoint(w=tensor()), **arguments))


def test_a_pickle_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"w": [1, 2, 3]}))
    with pytest.raises(WeightsFileError, match=r"not one of torch\.save"):
        read(path)


def test_the_old_views_of_storages_are_refused(tmp_path):
    old = group(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), number(24), b"N") + b"Q"
    assert read(old_format(tmp_path / "x.pth", checkpoint(w=tensor(of=old))))["w"].shape == (2, 3)
    view = (
        group(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), number(24), group(text("1"))) + b"Q"
    )
    with pytest.raises(WeightsFileError, match=r"since 0\.4"):
        read(old_format(tmp_path / "y.pth", checkpoint(w=tensor(of=view))))


def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path):
    path = new_format(tmp_path / "x.pth", checkpoint(w=tensor()))
    content = io.BytesIO(path.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(content, "a") as archive:
        archive.writestr("archive/data/0", bytes(96))
    path.write_bytes(content.getvalue())
    with pytest.raises(WeightsFileError, match="two members of one name"):
        read(path)


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason=f"needs the published checkpoints in {CHECKPOINTS}")
@pytest.mark.parametrize("name, layers", [("resnet20-12fca82f.th", 20), ("resnet44-014dd654.th", 44)])
def test_published_checkpoints_have_their_networks_weights(name, layers):
    arrays = read(CHECKPOINTS / name)
    learned = {name: array for name, array in arrays.items() if "running" not in name}
    assert sum(array.ndim > 1 for array in learned.values()) == layers  # its convolutions and its classifier
    assert arrays["conv1.weight"].shape == (16, 3, 3, 3) and arrays["linear.weight"].shape == (10, 64)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())
    assert sum(array.size for array in learned.values()) == {20: 269_722, 44: 658_586}[layers]
