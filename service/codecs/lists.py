"""Rows as JSON: nested lists of numbers -> float32.

The fast path takes what is right; what it does not take, the slow path goes through again to point at the wrong places.
"""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from bundle.calibration import Floats
from service.codecs.rows import RowSpec, Shape
from service.errors import Fault

__all__ = ["rows_from_json"]

MOST_FAULTS = 10
NUMBERS = {int, float}


def rows_from_json(value: object, spec: RowSpec) -> Floats:
    """The rows, float32 of shape (n, size), that a parsed JSON value holds: an array of rows, or one row by itself.

    Raises InvalidContent that points at up to ten wrong places, or TooManyRows.
    """
    if not isinstance(value, list):
        raise spec.invalid(Fault(f"{_name(value)} stands where the array of rows belongs", spec.pointer))
    rows: list[object] = value
    single = _outline(value) in spec.shapes or (len(rows) > 0 and type(rows[0]) in NUMBERS)
    if single:
        rows = [value]
    spec.check_count(len(rows))
    outline = _outline(rows[0])
    values = _convert(rows, outline) if outline in spec.shapes else None
    if values is not None:
        return values.reshape(len(rows), spec.size)
    shape = outline if outline in spec.shapes else (spec.size,)
    faults = (
        fault
        for index, row in enumerate(rows)
        for fault in _faults(row, shape, spec.pointer if single else f"{spec.pointer}/{index}")
    )
    raise spec.invalid(*islice(faults, MOST_FAULTS))


def _convert(rows: list[object], shape: Shape) -> Floats | None:
    """All values in order, shape (n * size,), or None unless every row has that shape and holds finite numbers."""
    level: list[object] = rows
    for length in shape:
        if not all(type(part) is list and len(part) == length for part in level):
            return None
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]  # all are lists, see above
    if not set(map(type, level)) <= NUMBERS:
        return None
    try:
        with np.errstate(over="ignore"):
            values = np.array(level, dtype=np.float32)
    except OverflowError:  # an integer that not even a float64 can hold
        return None
    return values if np.isfinite(values).all() else None


def _outline(value: object) -> Shape:
    """The shape that a nested list has along its first elements."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < 4:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _faults(value: object, shape: Shape, pointer: str) -> Iterator[Fault]:
    """Every wrong place in a value that should have this shape, in order."""
    if not shape:
        if type(value) not in NUMBERS:
            yield Fault(f"{_name(value)} stands where a number belongs", pointer)
        elif not abs(value) <= float(np.finfo(np.float32).max):  # type: ignore[arg-type]  # int or float, see above
            yield Fault("the number is too large for float32", pointer)
    elif not isinstance(value, list):
        yield Fault(f"{_name(value)} stands where an array of {shape[0]} belongs", pointer)
    elif len(value) != shape[0]:
        yield Fault(f"the array has {len(value)} elements, not {shape[0]}", pointer)
    else:
        for index, part in enumerate(value):
            yield from _faults(part, shape[1:], f"{pointer}/{index}")


def _name(value: object) -> str:
    """The JSON type of a value, for a sentence; never the value itself."""
    names: dict[type, str] = {
        bool: "a boolean",
        str: "a string",
        dict: "an object",
        list: "an array",
        type(None): "null",
    }
    return names.get(type(value), "a number")
