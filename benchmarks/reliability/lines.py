"""Streams of rows, newline-delimited JSON there and back: every line of an answer is checked, and how it ends."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import orjson

from benchmarks.reliability.direct import direct, probe
from benchmarks.reliability.question import NDJSON, CutOff, Question
from bundle.operations import Method, Operation
from bundle.read import Bundle
from service.api.answers import SINGULAR

__all__ = ["line_questions", "read_lines"]

MAIN = {Operation.RECONSTRUCT: "outputs", Operation.ENCODE: "latents", Operation.ANOMALY_SCORE: "scores"}
# Odd, so that pieces end anywhere within a line.
PIECE_BYTES = 4_999
OUT_OF_TIME = 504


def line_questions(
    bundle: Bundle, *, counts: Sequence[int] = (3, 60), fields: Mapping[str, str] | None = None
) -> list[Question]:
    """So many rows to encode, to reconstruct and to score, each as a stream that comes in pieces."""
    found = []
    for operation, main in MAIN.items():
        for count in counts:
            method = Method(operation.value)
            rows = probe(bundle, method, count=count, first=count)
            values = direct(bundle, method, rows)
            body = b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in rows)
            pieces = [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]
            found.append(
                Question.post(
                    f"/v1/models/{bundle.manifest.name}/{operation.path}",
                    pieces,
                    read=partial(read_lines, main=main, shape=values.shape[1:]),
                    expected={bundle.manifest.version: {main: values}},
                    fields={"Content-Type": NDJSON, **(fields or {})},
                )
            )
    return found


def read_lines(
    body: bytes, fields: Mapping[str, str], *, main: str, shape: tuple[int, ...]
) -> tuple[int, Mapping[str, np.ndarray]]:
    """The rows of a whole stream, each of this shape. Raises CutOff where its last line says that its time was over,
    ValueError where it does not end as it should, where a line is missing or holds no result."""
    *lines, end = map(orjson.loads, body.splitlines())
    if [line.get("index") for line in lines] != [*range(len(lines))]:
        raise ValueError("lines are missing or out of order")
    if problems := [line["problem"]["title"] for line in lines if "problem" in line]:
        raise ValueError(f"{len(problems)} lines have no result: {problems[0]}")
    arrays = {main: np.asarray([line[SINGULAR[main]] for line in lines], dtype=np.float32).reshape(-1, *shape)}
    version = int(fields["diabolo-version"])
    if end == {"done": True, "rows": len(lines)}:
        return version, arrays
    if "index" not in end and end.get("problem", {}).get("status") == OUT_OF_TIME:
        raise CutOff(end["problem"]["title"], version, arrays)
    raise ValueError(f"the stream ends with {end!r:.60}")
