"""Hostile pickles: nothing runs, nothing grows, everything is refused by name."""

import contextlib
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from keras_resnet.weights.bounds import WeightsFileError
from keras_resnet.weights.pickles import IGNORED, Machine, Storage, Tensor

pytestmark = pytest.mark.lower_house


def run(body: bytes, start: bytes = b"\x80\x02") -> object:
    return Machine().run(io.BytesIO(start + body + b"."))


def refusal(body: bytes) -> str:
    with pytest.raises(WeightsFileError) as refused:
        run(body)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(size: int = 24, key: str = "0", kind: str = "torch\nFloatStorage") -> bytes:
    return group(text("storage"), b"c" + kind.encode() + b"\n", text(key), text("cpu"), number(size)) + b"Q"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None) -> bytes:
    numbers = number(offset), group(*map(number, shape)), group(*map(number, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + group(of or storage(), *numbers, b"\x89", b"N") + b"R"


PLAIN = [
    {"epoch": 3, "best": 0.5, "names": ["a", b"b", None], "flags": (True, False), "none": (), "pair": (1, 2)},
    {"long": [-(2**70), 2**70, 2**31, -1, 255, 65535], "nested": {"list": [[], [1], list(range(2000))]}},
    {f"layer{i}": i for i in range(3000)},
    "ü" * 300,
]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=["metrics", "numbers", "names", "text"])
def test_plain_values_mean_what_python_means_by_them(value, protocol):
    if protocol == 2 and "best" in value:
        value = {key: item for key, item in value.items() if key != "names"}  # bytes are a call there
    stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    assert Machine().run(stream) == value
    assert stream.read() == b"rest"


def test_a_memoised_value_stays_one_object():
    shared = [1]
    first, second = Machine().run(io.BytesIO(pickle.dumps([shared, shared], 4)))
    assert first is second


def test_a_tensor_is_a_description():
    assert run(tensor()) == Tensor(Storage("0", np.dtype("float32"), 24), 0, (2, 3), (3, 1))


def test_a_size_is_a_tuple():
    assert run(b"ctorch\nSize\n" + group(group(b"K\x02", b"K\x03")) + b"R") == (2, 3)


class Canary:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reduce_runs_nothing(tmp_path, protocol):
    data = pickle.dumps(Canary(tmp_path / "ran"), protocol)
    with pytest.raises(WeightsFileError, match=r"refuses global '\w+\.mkdir'|needs"):
        Machine().run(io.BytesIO(data))
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    assert (tmp_path / "ran").exists()  # so the canary would have sung


HOSTILE = {
    "GLOBAL": (b"cos\nsystem\n" + group(text("true")) + b"R", "refuses global 'os.system'"),
    "GLOBAL with spaces": (b"cos path\nx y\n", "refuses global"),
    "STACK_GLOBAL": (b"\x8c\x02os\x8c\x06system\x93" + group(text("true")) + b"R", "refuses global 'os.system'"),
    "STACK_GLOBAL of a dotted name": (b"\x8c\x05torch\x8c\x0ahub.system\x93", "refuses global 'torch.hub.system'"),
    "STACK_GLOBAL of no names": (b"K\x01K\x02\x93", "looks up 2 in 1"),
    "INST": (b"(" + text("true") + b"ios\nsystem\n", "needs INST with 'os system'"),
    "OBJ": (b"(cos\nsystem\n" + text("true") + b"o", "refuses global 'os.system'"),
    "OBJ of a known name": (b"(ctorch\nSize\no", "needs OBJ"),
    "NEWOBJ": (b"cos\nsystem\n" + group(text("true")) + b"\x81", "refuses global 'os.system'"),
    "NEWOBJ_EX": (b"ctorch\nSize\n)}\x92", "needs NEWOBJ_EX"),
    "EXT1": (b"\x82\x01", "needs EXT1 with 1"),
    "EXT2": (b"\x83\x01\x00", "needs EXT2"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "needs EXT4"),
    "PERSID": (b"Pid\n", "needs PERSID"),
    "NEXT_BUFFER": (b"\x97", "needs NEXT_BUFFER"),
    "eval": (b"cbuiltins\neval\n" + group(text("1")) + b"R", "refuses global 'builtins.eval'"),
    "eval of Python 2": (b"c__builtin__\neval\n", "refuses global '__builtin__.eval'"),
    "getattr": (b"cbuiltins\ngetattr\n", "refuses global 'builtins.getattr'"),
    "a class of torch": (b"ctorch.nn.modules.conv\nConv2d\n)\x81", "refuses global 'torch.nn.modules.conv.Conv2d'"),
    "torch.load": (b"ctorch.serialization\nload\n", "refuses global 'torch.serialization.load'"),
    "a call of a text": (text("os.system") + b")R", "calls 'os.system'"),
    "a call of a storage type": (b"ctorch\nFloatStorage\n)R", "calls a Name"),
    "a call without a tuple": (b"ctorch\nSize\nK\x01R", "calls a Name"),
    "a call of a tensor": (tensor() + b")R", "calls a Tensor"),
    "BUILD of a tensor": (tensor() + b"}b", "sets attributes of a Tensor"),
    "BUILD of a name": (b"ctorch\nSize\n}b", "sets attributes of a Name"),
    "BUILD of a storage": (storage() + b"}b", "sets attributes of a Storage"),
    "APPENDS to a tuple": (b")(K\x01e", "appends to a tuple"),
    "SETITEMS of a list": (b"](K\x01K\x02u", "sets items of a list"),
    "a reference that is no storage": (group(text("module"), *[b"N"] * 4) + b"Q", "refers to 'module'"),
    "a storage of an unknown type": (storage(kind="torch\nSize"), "refers to 'storage' a Name"),
    "a storage of negative size": (storage(-1), "describes storage"),
    "a storage described twice": (storage(3) + storage(4), "in two ways"),
    "a memo bomb": (b"Nr\xff\xff\xff\xff", "remembers item 4294967295"),
    "strides past the storage": (tensor((2, 3), (300, 1)), "needs element 302 of storage '0', which has 24"),
    "an offset past the storage": (tensor((), (), 24), "needs element 24"),
    "a negative offset": (tensor(offset=-1), "without a storage, an offset"),
    "a negative size": (tensor((-1, 3)), "where a shape belongs"),
    "a negative stride": (tensor((2, 3), (-3, 1)), "where a shape belongs"),
    "a huge size": (tensor((2**61, 2**61), (1, 1)), "needs element"),
    "a size beyond all bounds": (tensor((2**80,), (0,)), "where a shape belongs"),
    "more strides than sizes": (tensor((2, 3), (3, 1, 1)), "without a storage, an offset or strides"),
    "a rank beyond numpy's": (tensor((1,) * 33, (1,) * 33), "where a shape belongs"),
    "a boolean size": (
        b"ctorch._utils\n_rebuild_tensor_v2\n" + group(storage(), b"K\x00", b"\x88\x85", b"K\x01\x85") + b"R",
        "where a shape belongs",
    ),
    "a tensor of no storage": (tensor(of=text("0")), "without a storage"),
    "too many instructions": (b"N0" * 2**19 + b"N", "more than 1048576 instructions"),
}


@pytest.mark.parametrize(("body", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused_with_the_reason(body, reason):
    assert reason in refusal(body)


def test_training_state_is_understood_as_nothing():
    """What scripts keep beside the weights: numpy's metrics, argparse's namespaces, a schedule's counters, sets."""
    metric = b"cnumpy\ndtype\n" + group(text("f8")) + b"R" + group(b"K\x03", text("<")) + b"b"
    scalar = b"cnumpy._core.multiarray\nscalar\n" + group(metric, text("12345678")) + b"R"
    namespace = b"cargparse\nNamespace\n)\x81}(" + text("lr") + b"K\x01ub"
    for body in (scalar, namespace, b"ccollections\nCounter\n}\x85R", b"\x8f(K\x01\x90", b"(K\x01\x91"):
        assert run(body, b"\x80\x04") is IGNORED


def test_keys_that_are_not_texts_are_dropped():
    assert run(b"}(" + number(2**61 - 1) + b"N" + text("a") + b"K\x01" + b"))u") == {"a": 1}


def test_the_dict_of_python_2_is_a_dict():
    pairs = b"](](" + text("a") + b"K\x01e](" + text("b") + b"K\x02ee"
    assert run(b"ccollections\nOrderedDict\n" + pairs + b"\x85R}b") == {"a": 1, "b": 2}


BOMBS = {
    "nested tuples": b")" + b"\x85" * 200_000,
    "nested lists": b"]" * 100_000 + b"a" * 99_999,
    "doubling": b")\x94" + b"".join((b"j" + struct.pack("<I", i)) * 2 + b"\x86\x94" for i in range(500)),
    "a key that is a bomb": b"}" + b")" + b"\x85" * 100_000 + b"Ns",
    "a list that contains itself": b"]\x94h\x00a",
    "a dict that contains itself": b"}\x94" + text("state_dict") + b"h\x00s",
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_bombs_stay_as_small_as_they_are_written(body):
    """Their repr, hash or comparison would not end or would overflow the stack: none of the three is ever taken."""
    assert isinstance(run(body, b"\x80\x04"), tuple | list | dict)


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_no_instruction_alone_does_harm(opcode):
    """Each one on an empty stack and on a full one, with bytes that may be its argument."""
    code = opcode.code.encode("latin-1")
    for argument in (b"", b"\x01\x00\x00\x00\x00\x00\x00\x00a", b"\xff" * 8, b"1\n2\n"):
        for before in (b"", b"(NN", b"])}"):
            # The door makes one exception of these.
            with contextlib.suppress(ValueError, IndexError, KeyError, TypeError, AttributeError):
                run(before + code + argument)
