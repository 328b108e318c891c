"""The OpenAPI document, said of the bundles at hand: how wide rows are, which names there are, what goes together.

The document holds for all bundles, so what is valid by it may be wrong for one of them. What is valid by this one has
to be accepted, and what is not has to be refused.
"""

import copy
import io
from typing import Any

import numpy as np
import orjson
from hypothesis import strategies as st
from PIL import Image
from schemathesis import Case
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario

from service.codecs.npy import npy_from_rows
from service.operations import MAX_SEED
from tests.bundle_factory import CALIBRATION, LATENT_SIZE, SIZE
from tests.fuzz.served import names_for

__all__ = ["FORMATS", "MOST_ROWS", "AnyCase", "agreed", "is_failure", "narrowed"]

Schema = dict[str, Any]
AnyCase = Case[Any]
MOST_ROWS = 8
"""In a request, by the settings of the service that is fuzzed."""
MOST_SQUARED = 1e18
LONG_MS = 60_000  # with less, a timeout is what was asked for
HEADER_LENGTH = "Inference-Header-Content-Length"
MESSAGE_END = b"}]}"  # of the JSON in front of raw tensors
TENSORS = ("inputs", "latents", "start", "end")

LIMIT = 2.0**128 - 2.0**103  # from here on numbers round to none that float32 has
NUMBER: Schema = {"type": "number", "exclusiveMinimum": -LIMIT, "exclusiveMaximum": LIMIT}
ALPHA: Schema = {"type": "number", "minimum": CALIBRATION.smallest_p_value, "exclusiveMaximum": 1}
SEED: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}


def _array(items: Schema, least: int, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": least if most is None else most}


def _object(required: Schema, **others: Schema) -> Schema:
    members = {"properties": required | others, "required": list(required)}
    return {"type": "object", **members, "additionalProperties": False}


SCALAR: Schema = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]}
ROWS = (_array(NUMBER, SIZE), _array(_array(NUMBER, 2), 2), _array(_array(_array(NUMBER, 1), 2), 2))
CODE = _array(NUMBER, LATENT_SIZE)
INPUTS: Schema = {"anyOf": [*ROWS, *(_array(row, 1, MOST_ROWS) for row in ROWS)]}
CODES: Schema = {"anyOf": [CODE, _array(CODE, 1, MOST_ROWS)]}
ENDS = {
    "inputs": {"anyOf": [ROWS[0], _array(ROWS[1], 1)]},
    "latents": {"anyOf": [CODE, _array(CODE, 1)]},
    "seeds": {"anyOf": [SEED, _array(SEED, 1)]},
}


def _numbers(width: int) -> st.SearchStrategy[Any]:
    number = st.floats(-1000, 1000, width=32)
    return st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=MOST_ROWS)


def _npy(rows: list[list[float]]) -> bytes:
    return npy_from_rows(np.array(rows, np.float32))


def _lines(rows: list[list[float]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _message(rows: list[list[float]]) -> bytes:
    raw = np.array(rows, "<f4").tobytes()
    tensor = {"name": "input", "shape": [len(rows), SIZE], "datatype": "FP32"}
    return orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}) + raw


def _pictures(image_format: str) -> st.SearchStrategy[bytes]:
    def saved(pixels: bytes) -> bytes:
        buffer = io.BytesIO()
        Image.frombytes("L", (2, 2), pixels).save(buffer, image_format)
        return buffer.getvalue()

    return st.binary(min_size=SIZE, max_size=SIZE).map(saved)


FORMATS = {
    **{f"npy-{width}": _numbers(width).map(_npy) for width in (SIZE, LATENT_SIZE)},
    **{f"lines-{width}": _numbers(width).map(_lines) for width in (SIZE, LATENT_SIZE)},
    "message": _numbers(SIZE).map(_message),
    "png-pixels": _pictures("PNG"),
    "jpeg-pixels": _pictures("JPEG"),
}
"""Strategies for bodies that are no JSON, by what the narrowed document calls their formats."""


def narrowed(document: Schema) -> Schema:
    """The same operations, statuses, fields and answers; parameters and bodies as the bundles at hand want them."""
    document = copy.deepcopy(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            name = operation["operationId"].removesuffix("_version")
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _parameter(parameter, name)
            for media, body in operation.get("requestBody", {}).get("content", {}).items():
                body["schema"] = _body(media, name, body["schema"])
    return document


def agreed(case: AnyCase) -> AnyCase:
    """The same case, where its parts are valid each, with parts that go together: what no schema can say."""

    def valid(location: ParameterLocation) -> bool:
        return case.meta is None or not case.meta.is_negative_at(location)

    if valid(ParameterLocation.HEADER):
        case.headers.pop(HEADER_LENGTH, None)
        if case.media_type == "application/octet-stream" and valid(ParameterLocation.BODY):
            case.headers[HEADER_LENGTH] = str(_content(case.body).find(MESSAGE_END) + len(MESSAGE_END))
    timeout = str(case.headers["Request-Timeout-Ms"]) if "Request-Timeout-Ms" in case.headers else ""
    if timeout.isdecimal() and 0 < int(timeout) < LONG_MS:
        case.headers["Request-Timeout-Ms"] = str(LONG_MS)
    if case.query and valid(ParameterLocation.QUERY):
        if case.media_type == "application/json":
            case.query = {}  # a JSON body carries all parameters itself
        elif "alpha" in case.query:
            case.query.pop("threshold", None)
    if isinstance(case.body, dict) and valid(ParameterLocation.BODY):
        body: dict[str, Any] = {**case.body}
        body |= {name: _calm(body[name]) for name in TENSORS if name in body}
        if "offset" in body:
            body["offset"] = min(body["offset"], MAX_SEED - MOST_ROWS)  # the last row's number is a seed too
        case.body = body
    return case


def _content(body: Any) -> bytes:
    return getattr(body, "data", body)  # type: ignore[no-any-return]  # Schemathesis wraps bytes


def _calm(value: Any) -> Any:
    """The value with 0 for numbers whose squares are no float32: such rows have no error and no score."""
    if isinstance(value, dict):
        return {name: _calm(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_calm(member) for member in value]
    return 0 if isinstance(value, int | float) and abs(value) > MOST_SQUARED else value


def is_failure(failure: Failure, case: AnyCase) -> bool:
    """False where what was not refused breaks the document by its letter alone."""
    if not isinstance(failure, AcceptedNegativeData) or case.meta is None:
        return True
    phase = case.meta.phase.data
    if isinstance(phase, CoveragePhaseData) and phase.scenario is CoverageScenario.OBJECT_UNEXPECTED_PROPERTIES:
        return phase.parameter_location is not ParameterLocation.HEADER  # HTTP passes over fields that it does not know
    # Lines are answered one by one, so a stream is never refused for what they hold.
    return case.media_type != "application/x-ndjson" or not case.meta.is_negative_at(ParameterLocation.BODY)


def _parameter(parameter: Schema, operation: str) -> Schema:
    schema: Schema = parameter["schema"]
    match parameter["name"]:
        case "name":
            return {"type": "string", "enum": list(names_for(operation))}
        case "version":
            return {"type": "string", "enum": ["1"]}
        case "index":
            return {"type": "string", "enum": ["0", "1", "2"]}
        case "alpha":
            return ALPHA
        case _:
            return schema


def _body(media: str, operation: str, schema: Schema) -> Schema:
    width = LATENT_SIZE if operation == "decode" else SIZE
    match media:
        case "application/x-npy":
            return {"type": "string", "format": f"npy-{width}"}
        case "application/x-ndjson":
            return {"type": "string", "format": f"lines-{width}"}
        case "application/octet-stream":
            return {"type": "string", "format": "message"}
        case "image/png" | "image/jpeg":
            return {"type": "string", "format": f"{media[6:]}-pixels"}
    match operation:
        case "interpolate":
            return _interpolation(schema["properties"])
        case "v2_infer":
            return _inference(schema)
    narrow = {"inputs": INPUTS, "latents": CODES, "alpha": {"anyOf": [ALPHA, {"type": "null"}]}}
    narrow["count"] = {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}
    found = {name: narrow.get(name, member) for name, member in schema.get("properties", {}).items()}
    return {**schema, "properties": found}


def _interpolation(members: Schema) -> Schema:
    """What the ends are, `space` says, or nobody."""
    steps = {"type": "integer", "minimum": 2, "maximum": MOST_ROWS}
    others = {"method": members["method"], "decimals": members["decimals"]}
    spaces = []
    for space, end in ENDS.items():
        ends, said = {"start": end, "end": end, "steps": steps}, {"space": {"const": space}}
        spaces.append(_object(ends, **said, **others) if space == "inputs" else _object(ends | said, **others))
    return {"anyOf": spaces}


def _inference(schema: Schema) -> Schema:
    """Shape and data agree, and nothing is said of the bundle that the path says otherwise."""
    kinds = ["FP32", "FP64", "INT8", "INT64", "UINT8", "UINT64"]
    shapes = [
        ([SIZE], _array(NUMBER, SIZE)),
        ([1, SIZE], _array(NUMBER, SIZE)),
        ([1, SIZE], _array(_array(NUMBER, SIZE), 1)),
        ([2, SIZE], _array(NUMBER, 2 * SIZE)),
        ([2, 2, 2], _array(_array(_array(NUMBER, 2), 2), 2)),
    ]
    tensors = [
        _object(
            {"name": {"const": "input"}, "shape": {"const": shape}, "datatype": {"enum": kinds}, "data": data},
            parameters={"type": "object", "additionalProperties": SCALAR, "not": {"required": ["binary_data_size"]}},
        )
        for shape, data in shapes
    ]
    members: Schema = dict(schema["properties"])
    output = members["outputs"]["anyOf"][0]["items"]
    parameters = copy.deepcopy(members["parameters"])
    parameters["properties"]["alpha"] = ALPHA
    members |= {
        "model_name": {"type": "null"},
        "model_version": {"enum": [None, "1"]},
        "parameters": parameters,
        "inputs": _array({"anyOf": tensors}, 1),
        "outputs": {"anyOf": [_array(output, 1), {"type": "null"}]},
    }
    return {**schema, "properties": members}
