"""Rows as JSON: nested lists of numbers, or objects by feature name -> float32.

The fast path takes what is right; what it does not take, the slow path goes through again to point at the wrong places.
"""

import difflib
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from bundle.calibration import Floats
from service.codecs.pointers import escape
from service.codecs.rows import RowSpec, Shape
from service.errors import Fault

__all__ = ["row_from_json", "rows_from_json", "rows_from_list"]

MOST_FAULTS = 10
NUMBERS = {int, float}


def rows_from_json(value: object, spec: RowSpec) -> Floats:
    """The rows, float32 of shape (n, size), that a parsed JSON value holds: an array of rows, or one row by itself.

    Raises InvalidContent that points at up to ten wrong places, or TooManyRows.
    """
    if spec.names and isinstance(value, dict):
        return row_from_json(value, spec)
    if not isinstance(value, list):
        raise spec.invalid(Fault(f"{_name(value)} stands where the array of rows belongs", spec.pointer))
    rows: list[object] = value
    single = _outline(value) in spec.shapes or (len(rows) > 0 and type(rows[0]) in NUMBERS)
    if single:
        return row_from_json(value, spec)
    spec.check_count(len(rows))
    found = rows_from_list(rows, spec)
    if found is not None:
        return found
    faults = (
        fault
        for index, row in enumerate(rows)
        for fault in _row_faults(row, spec, f"{spec.pointer}/{index}", like=rows[0])
    )
    raise spec.invalid(*islice(faults, MOST_FAULTS))


def row_from_json(value: object, spec: RowSpec) -> Floats:
    """The row, float32 of shape (1, size), that a parsed JSON value is. Raises InvalidContent as `rows_from_json`."""
    row = rows_from_list([value], spec)
    if row is None:
        raise spec.invalid(*islice(_row_faults(value, spec, spec.pointer, like=value), MOST_FAULTS))
    return row


def rows_from_list(rows: list[object], spec: RowSpec) -> Floats | None:
    """The rows, float32 of shape (n, size), or None unless all are right and written in the same way."""
    if spec.names and isinstance(rows[0], dict):
        wanted = set(spec.names)
        if not all(type(row) is dict and row.keys() == wanted for row in rows):
            return None
        values = _convert([[row[name] for name in spec.names] for row in rows], (spec.size,))  # type: ignore[index]  # all are dicts, see above
    else:
        outline = _outline(rows[0])
        values = _convert(rows, outline) if outline in spec.shapes else None
    return None if values is None else values.reshape(len(rows), spec.size)


def _row_faults(row: object, spec: RowSpec, pointer: str, *, like: object) -> Iterator[Fault]:
    """Every wrong place in a row that should be written as `like` is, where that is a way to write a row."""
    if spec.names and isinstance(like, dict):
        yield from _named_faults(row, spec, pointer)
    else:
        outline = _outline(like)
        yield from _faults(row, outline if outline in spec.shapes else (spec.size,), pointer)


def _named_faults(row: object, spec: RowSpec, pointer: str) -> Iterator[Fault]:
    """Every wrong place in a row that should be an object of the bundle's features."""
    if not isinstance(row, dict):
        yield Fault(f"{_name(row)} stands where an object by feature name belongs", pointer)
        return
    for name in spec.names:
        if name in row:
            yield from _faults(row[name], (), f"{pointer}/{escape(name)}")
        else:
            yield Fault(f"the feature {name!r} is missing", pointer)
    for name in row:
        if name not in spec.names:
            near = difflib.get_close_matches(name, spec.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield Fault(f"the bundle has no such feature{hint}", f"{pointer}/{escape(name)}")


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
