"""Streams of rows, newline-delimited JSON there and back: every line of an answer is checked, and how it ends."""

from collections.abc import Mapping, Sequence
from functools import partial

import orjson

from benchmarks.reliability.answers import array_from, arrays_from_fields, expected_of
from benchmarks.reliability.direct import probe
from benchmarks.reliability.question import NDJSON, Arrays, CutOff, Question
from bundle.operations import Method, Operation
from bundle.read import Bundle
from service.api.answers import SINGULAR

__all__ = ["line_questions", "read_lines"]

OPERATIONS = (Operation.RECONSTRUCT, Operation.ENCODE, Operation.ANOMALY_SCORE)
# Odd, so that pieces end anywhere within a line.
PIECE_BYTES = 4_999
OUT_OF_TIME = 504


def line_questions(
    bundle: Bundle, *, counts: Sequence[int] = (3, 60), fields: Mapping[str, str] | None = None
) -> list[Question]:
    """So many rows to encode, to reconstruct and to score, each as a stream that comes in pieces."""
    found = []
    for operation in OPERATIONS:
        for count in counts:
            rows = probe(bundle, Method(operation.value), count=count, first=count)
            expected = expected_of(bundle, operation, rows)
            shapes = {
                name: () if callable(values) else values.shape[1:]
                for name, values in expected.items()
                if name in SINGULAR
            }
            body = b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in rows)
            pieces = [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]
            found.append(
                Question.post(
                    f"/v1/models/{bundle.manifest.name}/{operation.path}",
                    pieces,
                    read=partial(read_lines, shapes=shapes),
                    expected={bundle.manifest.version: expected},
                    fields={"Content-Type": NDJSON, **(fields or {})},
                )
            )
    return found


def read_lines(body: bytes, fields: Mapping[str, str], *, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, Arrays]:
    """The arrays of a whole stream: those of its lines, in these shapes a line, and those in its fields. Raises CutOff
    where its last line says that its time was over, ValueError where it does not end as it should, where a line is
    missing or holds no result."""
    *lines, end = map(orjson.loads, body.splitlines())
    if [line.get("index") for line in lines] != [*range(len(lines))]:
        raise ValueError("lines are missing or out of order")
    if problems := [line["problem"]["title"] for line in lines if "problem" in line]:
        raise ValueError(f"{len(problems)} lines have no result: {problems[0]}")
    arrays = {
        name: array_from(name, [line[SINGULAR[name]] for line in lines]).reshape(-1, *shape)
        for name, shape in shapes.items()
    } | arrays_from_fields(fields)
    version = int(fields["diabolo-version"])
    if end == {"done": True, "rows": len(lines)}:
        return version, arrays
    if "index" not in end and end.get("problem", {}).get("status") == OUT_OF_TIME:
        raise CutOff(end["problem"]["title"], version, arrays)
    raise ValueError(f"the stream ends with {end!r:.60}")
