"""Rows as `.npy`: the bytes that `numpy.save` writes. Pickles are never opened."""

import io
import math
import re
from typing import NamedTuple

import numpy as np

from bundle.calibration import Floats
from service.codecs.rows import RowSpec
from service.errors import Fault, InvalidContent, MalformedBody

__all__ = ["npy_from_rows", "rows_from_npy"]

NUMBER_KINDS = "fiu"
# What numpy.save writes of plain numbers. numpy reads it with Python's own parser, which takes longer than a small
# forward pass; and which fails in CPython 3.11, once in many thousand times, with a SystemError about its
# recursion depth where another thread parses too, as one does that loads a bundle.
PLAIN_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"(?P<text>\{'descr': '(?P<dtype>[<>|][fiu][1248])', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:0|[1-9]\d{0,8})(?:, (?:0|[1-9]\d{0,8}))*),?\), \} *\n)",
    re.DOTALL,
)


class Header(NamedTuple):
    """What a `.npy` file announces, and where its data begins."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int


def rows_from_npy(body: bytes, spec: RowSpec) -> Floats:
    """The rows, float32 of shape (n, size), that a `.npy` file holds as floats or integers of any width and byte order.

    The header is checked before its data is looked at. Raises MalformedBody for a damaged file, InvalidContent for a
    wrong type, shape or a value that is not finite, TooManyRows.
    """
    shape, fortran, dtype, start = _plain_header(body) or _header(body)
    if dtype.kind not in NUMBER_KINDS:
        kind = "pickled objects, which are never opened" if dtype.hasobject else "no plain numbers"
        raise InvalidContent(
            f"{spec.pointer.removeprefix('#/')} must be floats or integers",
            faults=[Fault(f"the array's type is {str(dtype)[:40]}: {kind}", spec.pointer)],
        )
    if not all(type(length) is int and 0 <= length <= len(body) for length in shape):
        raise MalformedBody("the .npy header announces a shape that this body cannot have")
    spec.check_shape(shape)
    if len(body) - start != math.prod(shape) * dtype.itemsize:
        raise MalformedBody(
            f"the .npy header announces {list(shape)} of {dtype}, but {len(body) - start} bytes follow it"
        )
    raw = np.frombuffer(body, dtype=dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.array(raw, dtype=np.float32, order="C").reshape(-1, spec.size)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise spec.invalid(Fault("the value is not a finite float32", f"{spec.pointer}/{row}/{column}"))
    return rows


def _plain_header(body: bytes) -> Header | None:
    """The header, if it is as numpy.save writes it."""
    found = PLAIN_HEADER.match(body)
    if found is None or int.from_bytes(found["length"], "little") != len(found["text"]):
        return None
    try:
        dtype = np.dtype(found["dtype"].decode())
    except TypeError:  # there is no f1
        return None
    return Header(tuple(map(int, found["shape"].split(b", "))), found["fortran"] == b"True", dtype, found.end())


def _header(body: bytes) -> Header:
    """Any header, by numpy. Raises MalformedBody."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except Exception:  # of hostile bytes numpy's parser says ValueError, MemoryError, TokenError and more
        raise MalformedBody("the body is not a .npy file of format 1.0 or 2.0; numpy.save writes one") from None
    return Header(shape, fortran, dtype, file.tell())


def npy_from_rows(rows: np.ndarray) -> bytes:
    """The bytes of a `.npy` file that holds the array."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()
