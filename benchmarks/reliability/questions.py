"""Questions about a bundle, in every way to ask them, with the answers that its program gives without the service."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from benchmarks.reliability.answers import BESIDE, MAIN, array_from, arrays_from_fields, expected_of
from benchmarks.reliability.direct import probe
from benchmarks.reliability.question import JSON, NPY, Arrays, Question
from bundle.calibration import Floats
from bundle.operations import Method, Operation
from bundle.read import Bundle

__all__ = ["question", "questions_of", "read_json"]


def question(
    versions: Mapping[int, Bundle],
    operation: Operation,
    *,
    count: int,
    first: int = 0,
    name: str | None = None,
    media: tuple[str, str] = (NPY, NPY),
    fields: Mapping[str, str] | None = None,
) -> Question:
    """`count` rows of the probe of the bundles, which share it, from row `first` on and again from its start.

    `versions` are those that may answer, under `name` or their own; `media` are those of the body and of the answer.
    """
    a_bundle = next(iter(versions.values()))
    name = name or a_bundle.manifest.name
    method = Method(operation.value)
    rows = probe(a_bundle, method, count=count, first=first)
    sent, wanted = media
    given = "latents" if method.takes_latents else "inputs"
    body = orjson.dumps({given: rows}, option=orjson.OPT_SERIALIZE_NUMPY) if sent == JSON else _npy(rows)
    answers = {bundle: expected_of(bundle, operation, rows) for bundle in set(versions.values())}
    return Question.post(
        f"/v1/models/{name}/{operation.path}",
        body,
        read=read_json if wanted == JSON else _read_npy,
        expected={version: answers[bundle] for version, bundle in versions.items()},
        fields={"Content-Type": sent, "Accept": wanted, **(fields or {})},
    )


def questions_of(
    bundle: Bundle, *, counts: Sequence[int] = (1, 3, 16), fields: Mapping[str, str] | None = None
) -> list[Question]:
    """Every operation that takes rows, of every media type there and back, with so many rows."""
    return [
        question({bundle.manifest.version: bundle}, operation, count=count, first=count, media=media, fields=fields)
        for operation in MAIN
        if operation in bundle.manifest.operations
        for media in ((JSON, JSON), (NPY, NPY), (JSON, NPY))
        for count in counts
    ]


def _npy(rows: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _read_npy(body: bytes, fields: Mapping[str, str]) -> tuple[int, Arrays]:
    array = np.load(io.BytesIO(body), allow_pickle=False)
    # The file does not say what its array is: it is whatever was asked for.
    return int(fields["diabolo-version"]), dict.fromkeys(MAIN.values(), array) | arrays_from_fields(fields)


def read_json(body: bytes, fields: Mapping[str, str]) -> tuple[int, Arrays]:  # noqa: ARG001
    """The arrays of the service's JSON."""
    document = orjson.loads(body)
    names = [name for name in (*MAIN.values(), *BESIDE) if name in document]
    return document["version"], {name: array_from(name, document[name]) for name in names}
