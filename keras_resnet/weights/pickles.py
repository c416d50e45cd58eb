"""Pickles of state dicts, understood without running them.

A pickle is a program. Python's own unpickler runs it, and even when told which names it may look up it can be made to
fill the memory or overflow the stack. So this module has a machine of its own, which knows the instructions that a
state dict needs and no others. A name in the pickle never becomes a function or a class: it stays a `Name`, and what
"calling" a name means is a row of a table here. Tensors stay descriptions of a window on a storage.
"""

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from keras_resnet.weights.bounds import WeightsFileError, brief, checked_shape, is_natural

# A tensor takes about 45 instructions: room for 20,000 of them. An instruction can cost a hundred bytes of memory.
_MAX_INSTRUCTIONS = 2**20
ADVICE = "; in PyTorch, load the file if you trust it and torch.save(model.state_dict(), ...)"


@dataclass(frozen=True)
class Name:
    """A global that the pickle names, and that stays a name."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Where in the file the elements of some tensors lie."""

    key: str
    dtype: np.dtype
    size: int


@dataclass(frozen=True)
class Tensor:
    """A window on a storage, known to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Ignored:
    """What stands for a value that no weight depends on."""


IGNORED = Ignored()


def _tensor(*arguments) -> Tensor:
    """What `_rebuild_tensor` and `_rebuild_tensor_v2` mean; requires_grad and hooks come after and do not matter."""
    storage, offset, shape, strides = arguments[:4]
    shape, strides = checked_shape(shape, "a tensor"), checked_shape(strides, "the strides of a tensor")
    if not isinstance(storage, Storage) or not is_natural(offset) or len(shape) != len(strides):
        raise WeightsFileError("describes a tensor without a storage, an offset or strides; download it again")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if math.prod(shape) and last >= storage.size:
        raise WeightsFileError(
            f"has a tensor of shape {shape} that needs element {last} of storage {brief(storage.key)}, which has "
            f"{storage.size}; download it again"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: object, *_) -> object:
    return tensor


def _ordered_dict(items: object = ()) -> dict:
    """An OrderedDict, which Python 2 pickled with its items as the argument."""
    return {key: value for key, value in items if isinstance(key, str)}


def _size(items: tuple = ()) -> tuple[int, ...]:
    return checked_shape(items, "a torch.Size")


# The globals that a checkpoint may name, and what we take them to mean.
STORAGES = {
    "torch.DoubleStorage": np.dtype("float64"),
    "torch.FloatStorage": np.dtype("float32"),
    "torch.HalfStorage": np.dtype("float16"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("int64"),
    "torch.IntStorage": np.dtype("int32"),
    "torch.ShortStorage": np.dtype("int16"),
    "torch.CharStorage": np.dtype("int8"),
    "torch.ByteStorage": np.dtype("uint8"),
    "torch.BoolStorage": np.dtype("bool"),
}
CALLS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
}
# What training scripts keep beside the weights: metrics, arguments, milestones. Nothing is made of them.
UNUSED = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        "collections.Counter",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
    }
)


class Machine:
    """Runs the pickles of state dicts on strings, numbers, tuples, lists, dicts and descriptions of tensors.

    Attributes:
        storages: the storages that the pickle has named, by key.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._stack: list = []
        self._below_marks: list[list] = []
        self._memo: dict[int, object] = {}

    def run(self, stream: io.BytesIO) -> object:
        """The object that the next pickle of `stream` describes; what follows it is left unread."""
        # genops only splits bytes into instructions and reads their arguments; it looks nothing up.
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= _MAX_INSTRUCTIONS:
                raise WeightsFileError(f"has a pickle of more than {_MAX_INSTRUCTIONS} instructions{ADVICE}")
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, argument)
            else:
                shown = "" if argument is None else f" with {brief(argument)}"
                raise WeightsFileError(f"has a pickle that needs {opcode.name}{shown}, as no state dict does{ADVICE}")
        return self._stack.pop()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _mark(self, _) -> None:
        self._below_marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list:
        items, self._stack = self._stack, self._below_marks.pop()
        return items

    def _pop(self, count: int) -> list:
        if count > len(self._stack):
            raise WeightsFileError("has a pickle that takes more than it has put; download it again")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _put(self, index: int | None) -> None:
        index = len(self._memo) if index is None else index
        if not 0 <= index < _MAX_INSTRUCTIONS:
            raise WeightsFileError(f"has a pickle that remembers item {brief(index)}; download it again")
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _extend(self, items: list) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Ignored):
            raise WeightsFileError(f"has a pickle that appends to {brief(target)}{ADVICE}")

    def _set_items(self, items: list) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            # Names of weights are strings. Other keys would only let a file choose what we hash.
            target.update((key, value) for key, value in zip(items[::2], items[1::2]) if isinstance(key, str))
        elif not isinstance(target, Ignored):
            raise WeightsFileError(f"has a pickle that sets items of {brief(target)}{ADVICE}")

    def _global(self, name: str) -> None:
        if name not in STORAGES and name not in CALLS and name not in UNUSED:
            raise WeightsFileError(f"refuses global {brief(name)}: only tensors are read, nothing is run{ADVICE}")
        self._push(Name(name))

    def _stack_global(self, _) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise WeightsFileError(f"has a pickle that looks up {brief(name)} in {brief(module)}{ADVICE}")
        self._global(f"{module}.{name}")

    def _call(self, _) -> None:
        function, arguments = self._pop(2)
        known = isinstance(function, Name) and isinstance(arguments, tuple)
        if known and function.name in CALLS:
            self._push(CALLS[function.name](*arguments))
        elif known and function.name in UNUSED:
            self._push(IGNORED)
        else:
            raise WeightsFileError(f"has a pickle that calls {brief(function)}{ADVICE}")

    def _build(self, _) -> None:
        # Of a dict this is the `_metadata` that state dicts carry, of anything else we know nothing to set.
        self._pop(1)
        if not isinstance(self._stack[-1], dict | Ignored):
            raise WeightsFileError(f"has a pickle that sets attributes of {brief(self._stack[-1])}{ADVICE}")

    def _storage(self, _) -> None:
        (reference,) = self._pop(1)
        kind, storage_type, key, _, size = reference[:5]
        if kind != "storage" or not isinstance(storage_type, Name) or storage_type.name not in STORAGES:
            raise WeightsFileError(f"refers to {brief(kind)} {brief(storage_type)} outside the pickle{ADVICE}")
        if not isinstance(key, str) or not is_natural(size) or reference[5:] not in ((), (None,)):
            raise WeightsFileError(f"describes storage {brief(key)} as PyTorch has not done since 0.4{ADVICE}")
        storage = Storage(key, STORAGES[storage_type.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsFileError(f"describes storage {brief(key)} in two ways; download it again")
        self._push(storage)


# The instructions whose argument is the value itself.
_LITERALS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
# The others that the pickles of state dicts use. Sets cannot hold tensors: they are ignored.
_INSTRUCTIONS: dict[str, Callable[[Machine, object], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "EMPTY_SET": lambda machine, _: machine._push(IGNORED),
    "TUPLE1": lambda machine, _: machine._push(tuple(machine._pop(1))),
    "TUPLE2": lambda machine, _: machine._push(tuple(machine._pop(2))),
    "TUPLE3": lambda machine, _: machine._push(tuple(machine._pop(3))),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._since_mark())),
    "FROZENSET": lambda machine, _: (machine._since_mark(), machine._push(IGNORED)),
    "MARK": Machine._mark,
    "POP": lambda machine, _: machine._pop(1),
    "APPEND": lambda machine, _: machine._extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._since_mark()),
    "ADDITEMS": lambda machine, _: machine._extend(machine._since_mark()),
    "SETITEM": lambda machine, _: machine._set_items(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set_items(machine._since_mark()),
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._put,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "GLOBAL": lambda machine, argument: machine._global(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._call,
    "NEWOBJ": Machine._call,
    "BUILD": Machine._build,
    "BINPERSID": Machine._storage,
}
