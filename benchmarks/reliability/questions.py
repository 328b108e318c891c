"""Questions about a bundle, in every way to ask them, with the answers that its program gives without the service."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from benchmarks.peers.wires import BinaryTensors, Tensors
from benchmarks.reliability.direct import direct, probe
from benchmarks.reliability.question import JSON, NPY, Question
from bundle.calibration import Floats
from bundle.operations import Method, Operation
from bundle.read import Bundle

__all__ = ["MAIN", "question", "questions_of", "read_json", "tensor_questions"]

MAIN = {
    Operation.ENCODE: "latents",
    Operation.DECODE: "outputs",
    Operation.RECONSTRUCT: "outputs",
    Operation.DENOISE: "outputs",
    Operation.ANOMALY_SCORE: "scores",
}
Expected = Mapping[int, Mapping[str, np.ndarray]]


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
    answers = {bundle: direct(bundle, method, rows) for bundle in set(versions.values())}
    return Question.post(
        f"/v1/models/{name}/{operation.path}",
        body,
        read=read_json if wanted == JSON else _read_npy,
        expected={version: {MAIN[operation]: answers[bundle]} for version, bundle in versions.items()},
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


def tensor_questions(
    bundle: Bundle, *, counts: Sequence[int] = (1, 16), fields: Mapping[str, str] | None = None
) -> list[Question]:
    """Reconstructions by the Open Inference Protocol, as JSON and as raw tensors, with so many rows."""
    path = f"/v2/models/{bundle.manifest.name}/infer"
    found = []
    for count in counts:
        rows = probe(bundle, Method.RECONSTRUCT, count=count)
        expected = {bundle.manifest.version: {"reconstruction": direct(bundle, Method.RECONSTRUCT, rows)}}
        for wire in (Tensors(path), BinaryTensors(path)):
            body, own = wire.request(rows)
            found.append(
                Question.post(path, body, read=_read_tensors, expected=expected, fields={**own, **(fields or {})})
            )
    return found


def _npy(rows: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _read_npy(body: bytes, fields: Mapping[str, str]) -> tuple[int, Mapping[str, np.ndarray]]:
    array = np.load(io.BytesIO(body), allow_pickle=False)
    # The file does not say what its array is: it is whatever was asked for.
    return int(fields["diabolo-version"]), dict.fromkeys(MAIN.values(), array)


def read_json(body: bytes, fields: Mapping[str, str]) -> tuple[int, Mapping[str, np.ndarray]]:  # noqa: ARG001
    """The arrays of the service's JSON."""
    document = orjson.loads(body)
    arrays = {name: np.asarray(document[name], dtype=np.float32) for name in MAIN.values() if name in document}
    return document["version"], arrays


def _read_tensors(body: bytes, fields: Mapping[str, str]) -> tuple[int, Mapping[str, np.ndarray]]:
    length = int(fields.get("inference-header-content-length", len(body)))
    document: dict[str, Any] = orjson.loads(body[:length])
    (output,) = document["outputs"]
    raw = np.frombuffer(body, "<f4", offset=length) if length < len(body) else np.float32(output["data"])
    return int(document["model_version"]), {output["name"]: raw.reshape(output["shape"])}
