"""What the pickles in a TorchScript archive may build: its own modules, and tensors that lie within its data."""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping, Set
from typing import NamedTuple

from bundle.errors import ProgramForbidden, ProgramInvalid
from bundle.manifest import TORCHSCRIPT_FILE

__all__ = ["check_objects"]

OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "SETITEMS", "EMPTY_LIST", "APPENDS"),
        *("GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "BINPERSID"),
    }
)
"""What torch's own writer and reader of pickles use."""

ITEM_BYTES = {"FloatStorage": 4, "DoubleStorage": 8, "LongStorage": 8, "IntStorage": 4, "BoolStorage": 1}
CPP_CLASSES = "__torch__.torch.classes."


class _Storage(NamedTuple):
    path: str
    values: int


def _check_tensor(storage: object, offset: object, sizes: object, strides: object, *_: object) -> None:
    """Stands for what makes a tensor of a storage."""
    match storage, offset, sizes, strides:
        case _Storage(path, values), int(start), tuple(), tuple() if len(sizes) == len(strides):
            if min((start, *sizes, *strides)) < 0:
                raise ValueError("a tensor has a negative size")
            last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
            if 0 not in sizes and last >= values:
                raise ProgramForbidden(f"{TORCHSCRIPT_FILE} has a tensor that reads beyond the end of {path}")
        case _:
            raise ValueError("a tensor is made of other things than a storage, an offset, sizes and strides")


class _Reader(pickle.Unpickler):
    """Builds stand-ins: nothing that a pickle can name here does anything."""

    def __init__(self, path: str, *, members: Mapping[str, bytes], classes: Set[str]) -> None:
        super().__init__(io.BytesIO(members[path]))
        self._path = path
        self._members = members
        self._classes = classes
        self._stand_in = type("StandIn", (), {})  # for this reader alone: a pickle can set attributes of it

    def find_class(self, module: str, name: str) -> object:
        full = f"{module}.{name}"
        if full in self._classes and not full.startswith(CPP_CLASSES):
            return self._stand_in
        if full == "torch._utils._rebuild_tensor_v2":
            return _check_tensor
        if full == "collections.OrderedDict":
            return OrderedDict
        if module == "torch" and name in ITEM_BYTES:
            return name
        raise ProgramForbidden(f"{self._path} in {TORCHSCRIPT_FILE} names {full[:100]}, which is not allowed")

    def persistent_load(self, pid: object) -> _Storage:
        match pid:
            case ("storage", str(kind), str(key), "cpu", int(values)) if kind in ITEM_BYTES:
                path = f"{self._path.removesuffix('.pkl')}/{key}"
                # torch itself does not look, and reads whatever lies behind in memory.
                if not 0 <= values * ITEM_BYTES[kind] <= len(self._members.get(path, b"")):
                    raise ProgramForbidden(f"{TORCHSCRIPT_FILE} promises more values than {path[:100]} holds")
                return _Storage(path, values)
        raise ValueError("a storage is of no known kind")


def check_objects(path: str, *, members: Mapping[str, bytes], classes: Set[str]) -> None:
    """Returns when the pickle `path` among `members` builds nothing but modules of `classes` and tensors whose values
    are all there. Raises ProgramForbidden or ProgramInvalid."""
    content = members[path]
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in OPCODES:
                raise ProgramForbidden(
                    f"{path} in {TORCHSCRIPT_FILE} has the opcode {opcode.name}, which is not allowed"
                )
            if opcode.name == "LONG_BINPUT" and (argument or 0) > len(content):
                raise ValueError("it remembers more than it has")  # Python reserves memory for all up to there
        _Reader(path, members=members, classes=classes).load()
    except ProgramForbidden:
        raise
    except Exception as error:  # a pickle can fail in any way
        raise ProgramInvalid(f"{path} in {TORCHSCRIPT_FILE} is no pickle of torch's: {error}") from None
