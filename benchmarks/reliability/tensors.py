"""Questions by the Open Inference Protocol, as JSON and as raw tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from benchmarks.peers.wires import BinaryTensors, Tensors
from benchmarks.reliability.answers import array_from, expected_of
from benchmarks.reliability.direct import probe
from benchmarks.reliability.question import JSON, Arrays, Question
from bundle.operations import Method, Operation
from bundle.read import Bundle

__all__ = ["read_tensors", "tensor_questions"]

NAMES = {"reconstruction": "outputs", "score": "scores", "p_value": "p_values", "is_anomaly": "is_anomaly"}
DTYPES = {"FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
BESIDE = {"errors", "threshold"}  # which the protocol has no outputs for


def tensor_questions(
    bundle: Bundle, *, counts: Sequence[int] = (1, 16), fields: Mapping[str, str] | None = None
) -> list[Question]:
    """Reconstructions of so many rows, and their scores with p-values and verdicts: each as JSON and as raw tensors."""
    path = f"/v2/models/{bundle.manifest.name}/infer"
    found = []
    for count in counts:
        rows = probe(bundle, Method.RECONSTRUCT, count=count)
        tensor = {"name": "input", "shape": rows.shape, "datatype": "FP32", "data": rows}
        asked = [(Operation.RECONSTRUCT, *wire.request(rows)) for wire in (Tensors(path), BinaryTensors(path))]
        for binary in (False, True):
            parameters = {"operation": Operation.ANOMALY_SCORE.value, "binary_data_output": binary}
            body = orjson.dumps({"inputs": [tensor], "parameters": parameters}, option=orjson.OPT_SERIALIZE_NUMPY)
            asked.append((Operation.ANOMALY_SCORE, body, {"Content-Type": JSON}))
        for operation, body, own in asked:
            expected = {
                name: values for name, values in expected_of(bundle, operation, rows).items() if name not in BESIDE
            }
            found.append(
                Question.post(
                    path,
                    body,
                    read=read_tensors,
                    expected={bundle.manifest.version: expected},
                    fields={**own, **(fields or {})},
                )
            )
    return found


def read_tensors(body: bytes, fields: Mapping[str, str]) -> tuple[int, Arrays]:
    """The outputs, under the names that /v1 has for them. Raises ValueError or KeyError."""
    end = int(fields.get("inference-header-content-length", len(body)))
    document: dict[str, Any] = orjson.loads(body[:end])
    arrays = {}
    for output in document["outputs"]:
        name = NAMES[output["name"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = array_from(name, output["data"])
        else:
            values = np.frombuffer(body[end : end + size], DTYPES[output["datatype"]])
            end += size
        arrays[name] = values.reshape(output["shape"])
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes belong to no output")
    return int(document["model_version"]), arrays
