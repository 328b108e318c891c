"""A batch that is too large for the memory there is, answered in parts."""

from collections.abc import Callable, Sequence

import numpy as np

from bundle.calibration import Floats
from service.engine.waiting import Outputs

__all__ = ["cut", "in_parts"]

Forward = Callable[[Floats], Outputs]


def in_parts(forward: Forward, pieces: Sequence[Floats]) -> list[Outputs | Exception]:
    """For each piece its outputs, or what went wrong with it: batches that fail for want of memory are halved until
    they do not, a piece that does not fit alone is halved and joined again, and a row that does not fit alone has the
    MemoryError. Other errors concern the pieces that were in one batch."""
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return [*_tried(forward, pieces[:middle]), *_tried(forward, pieces[middle:])]
    (piece,) = pieces
    if len(piece) <= 1:
        return [MemoryError("memory does not suffice for a single row")]
    halves = []
    for half in np.array_split(piece, 2):
        (found,) = _tried(forward, [half])
        if isinstance(found, Exception):
            return [found]
        halves.append(found)
    return [tuple(np.concatenate(outputs) for outputs in zip(*halves, strict=True))]


def _tried(forward: Forward, pieces: Sequence[Floats]) -> list[Outputs | Exception]:
    try:
        rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return [*cut(forward(rows), pieces)]
    except MemoryError:
        return in_parts(forward, pieces)
    except Exception as error:
        return [error] * len(pieces)


def cut(outputs: Outputs, pieces: Sequence[Floats]) -> list[Outputs]:
    """The outputs for each piece. Raises RuntimeError when there are more or fewer than rows went in."""
    rows = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
    for output in outputs:
        if len(output) != rows:
            raise RuntimeError(f"a forward pass returned another number of rows than the {rows} it was given")
    if len(pieces) == 1:
        return [tuple(outputs)]
    found, start = [], 0
    for piece in pieces:
        stop = start + len(piece)
        found.append(tuple([output[start:stop] for output in outputs]))
        start = stop
    return found
