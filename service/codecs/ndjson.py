"""Newline-delimited JSON: one row a line, split and read while it comes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson

from bundle.calibration import Floats
from service.codecs.lists import row_from_json, rows_from_list
from service.codecs.rows import RowSpec
from service.errors import InvalidContent, LineTooLong, MalformedBody, ServiceError

__all__ = ["Line", "LineSplitter", "Rows", "rows_from_lines"]

# A line without its end, or None for one that is longer than allowed.
Line = bytes | None


class LineSplitter:
    """Cuts what it is fed into lines, and holds no more than one line's beginning. Blank lines are none."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that end in this chunk. One that grows too long is None at once; its rest is passed over."""
        beginning, *others = chunk.split(b"\n")
        lines = self._go_on(beginning)
        if others:
            *whole, rest = others
            lines += self.end()
            lines += [line if len(line) <= self._max_bytes else None for line in whole if line and not line.isspace()]
            lines += self._go_on(rest)
        return lines

    def end(self) -> list[Line]:
        """The line that has begun, now that it has ended."""
        line = bytes(self._begun)
        self._begun.clear()
        self._skipping = False
        return [line] if line and not line.isspace() else []

    def _go_on(self, piece: bytes) -> list[Line]:
        if self._skipping:
            return []
        self._begun += piece
        if len(self._begun) <= self._max_bytes:
            return []
        self._begun.clear()
        self._skipping = True
        return [None]


class Rows(NamedTuple):
    """The rows (n, size) of the lines that hold one, and by its place what is wrong with each other line."""

    values: Floats
    problems: dict[int, ServiceError]


def rows_from_lines(lines: Sequence[Line], spec: RowSpec, *, max_bytes: int) -> Rows:
    """What these lines hold. A row is what it is in a request's array of rows; pointers are into its own line.

    A problem is MalformedBody for what is no JSON, InvalidContent for what is no row, LineTooLong.
    """
    parsed: list[object] = []
    problems: dict[int, ServiceError] = {}
    for place, line in enumerate(lines):
        try:
            parsed.append(_load(line, max_bytes))
        except ServiceError as problem:
            problems[place] = problem
    together = rows_from_list(parsed, spec) if parsed else None
    if together is not None:
        return Rows(together, problems)
    rows: list[Floats] = []
    places = [place for place in range(len(lines)) if place not in problems]
    for place, value in zip(places, parsed, strict=True):
        try:
            rows.append(row_from_json(value, spec))
        except InvalidContent as problem:
            problems[place] = InvalidContent(f"a line must be {spec.expected_row}", faults=problem.faults)
    return Rows(np.concatenate(rows) if rows else np.empty((0, spec.size), np.float32), problems)


def _load(line: Line, max_bytes: int) -> object:
    if line is None:
        raise LineTooLong(f"the line has more than the {max_bytes} bytes that are read")
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN and no Infinity" if b"NaN" in line or b"Infinity" in line else ""
        raise MalformedBody(f"the line is not JSON: {error.msg}: column {error.colno}{hint}") from None
