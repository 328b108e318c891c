"""Bodies of the Open Inference Protocol <-> rows: JSON, or JSON followed by raw little-endian tensors."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from bundle.calibration import Floats
from service.api.requests import load_json, validate
from service.api.v2.schemas import InferRequest, Tensor
from service.codecs.lists import rows_from_json
from service.codecs.rows import RowSpec
from service.errors import Fault, InvalidContent, MalformedBody

__all__ = ["INPUT", "Message", "Output", "json_bytes", "message_from", "read_message", "rows_from"]

INPUT = "input"
DTYPES = {
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
KEPT, MOST_KEPT_BYTES = 256, 1024
DATATYPES = {"f4": "FP32", "f8": "FP64", "b1": "BOOL"}


class Message(NamedTuple):
    """A request, and the raw tensors that followed its JSON."""

    request: InferRequest
    raw: memoryview


class Output(NamedTuple):
    """A named array of an answer; `binary`: after the JSON instead of in it."""

    name: str
    values: npt.NDArray[Any]
    binary: bool


def json_bytes(content: bytes, header_length: str | None) -> int:
    """How many bytes of the body are JSON: as many as its field says, or all. Raises MalformedBody."""
    if header_length is None:
        return len(content)
    if not header_length.isascii() or not header_length.isdecimal() or len(header_length) > 18:
        raise MalformedBody("Inference-Header-Content-Length must be the number of bytes of the JSON")
    length = int(header_length)
    if length > len(content):
        raise MalformedBody(f"Inference-Header-Content-Length says {length}, but the body has {len(content)} bytes")
    return length


def read_message(content: bytes, *, header_length: str | None) -> Message:
    """The request in a body whose JSON has `header_length` bytes, as its field says, or is the whole body.

    Raises MalformedBody or InvalidContent.
    """
    if header_length is None:
        return Message(_read(content), memoryview(b""))
    length = json_bytes(content, header_length)
    # In front of raw tensors clients send the same JSON again and again.
    read = _read_again if length <= MOST_KEPT_BYTES else _read
    return Message(read(content[:length]), memoryview(content)[length:])


def rows_from(message: Message, spec: RowSpec) -> Floats:
    """The rows, float32 of shape (n, size), of the request's only input.

    Raises MalformedBody where sizes disagree, InvalidContent for a wrong name, type or shape or a value that is not
    finite, TooManyRows.
    """
    (tensor,) = message.request.inputs
    if tensor.name != INPUT:
        raise _invalid(f"the only input is called {INPUT!r}", "name")
    if tensor.datatype not in DTYPES:
        raise _invalid(f"the datatype must be one of {', '.join(DTYPES)}, not {tensor.datatype}", "datatype")
    shape = tuple(tensor.shape)
    if not shape or min(shape) < 0:
        raise _invalid("the shape must be lengths of 0 or more", "shape")
    if 0 in shape:
        raise _invalid("there are no rows", "shape")
    spec.check_shape(shape)
    count = math.prod(shape) // spec.size
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is None:
            raise _invalid("neither `data` nor `parameters.binary_data_size` brings the values", "data")
        if len(message.raw):
            raise MalformedBody(f"{len(message.raw)} bytes follow the JSON, and no tensor says that they are its own")
        return _from_json(tensor, count, spec)
    return _from_bytes(tensor, count, message.raw, spec)


def message_from(document: dict[str, Any], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The body with these outputs, and the length of its JSON in bytes where raw tensors follow that."""
    described, raw = [], []
    for name, values, binary in outputs:
        entry: dict[str, Any] = {
            "name": name,
            "shape": list(values.shape),
            "datatype": DATATYPES[values.dtype.str[1:]],
        }
        if binary:
            content = np.ascontiguousarray(values).data.cast("B") if values.size else b""
            entry["parameters"] = {"binary_data_size": len(content)}
            raw.append(content)
        else:
            entry["data"] = np.ascontiguousarray(values).reshape(-1)
        described.append(entry)
    head = orjson.dumps({**document, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *raw]), len(head)) if raw else (head, None)


def _read(content: bytes) -> InferRequest:
    return validate(InferRequest, load_json(content), strict=True)


_read_again = lru_cache(maxsize=KEPT)(_read)


def _from_json(tensor: Tensor, count: int, spec: RowSpec) -> Floats:
    if tensor.datatype == "FP16":
        raise _invalid("FP16 has no form in JSON: send it as binary data", "datatype")
    data: list[Any] = tensor.data or []
    if len(data) == count * spec.size and not isinstance(data[0], list):
        # As one long row, so that faults point at the client's own places.
        return rows_from_json(data, RowSpec(len(data), 1, spec.pointer)).reshape(count, spec.size)
    rows = rows_from_json(data, spec)
    if len(rows) != count:
        raise _invalid(f"there are {len(rows)} rows, and the shape says {count}", "data")
    return rows


def _from_bytes(tensor: Tensor, count: int, raw: memoryview, spec: RowSpec) -> Floats:
    dtype = np.dtype(DTYPES[tensor.datatype])
    size, needed = tensor.parameters["binary_data_size"], count * spec.size * dtype.itemsize
    if type(size) is not int or size != needed:
        raise _invalid(f"a tensor of this shape and datatype has {needed} bytes", "parameters/binary_data_size")
    if len(raw) != needed:
        raise MalformedBody(
            f"{len(raw)} bytes follow the JSON, and the tensor has {needed}; Inference-Header-Content-Length must be "
            "the length of the JSON"
        )
    if tensor.data is not None:
        raise _invalid("the values are binary data: there can be no `data` too", "data")
    rows = np.frombuffer(raw, dtype).reshape(count, spec.size)
    if rows.dtype != np.float32:
        with np.errstate(over="ignore"):
            rows = rows.astype(np.float32)
    elif not rows.flags.aligned:  # by where the JSON ends; else they are taken as they are, and cannot be written into
        rows = rows.copy()
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = divmod(int(finite.argmin()), spec.size)
        raise _invalid(f"value {column} of row {row} is not a finite float32", "data")
    return rows


def _invalid(detail: str, where: str) -> InvalidContent:
    return InvalidContent(detail, faults=[Fault(detail, f"#/inputs/0/{where}")])
