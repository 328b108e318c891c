"""Every route of the document, called: it answers as the document says, to the document's own examples too."""

import io
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from service.codecs.npy import npy_from_rows
from tests.contract.test_openapi import OPERATIONS, Documented, examples_of
from tests.service.serving import ROWS, Served, assert_valid


class Route(NamedTuple):
    """A bundle that has the operation, and its body where it has one."""

    name: str
    body: dict[str, Any] | None = None


ROUTES = {
    "encode": Route("tiny", {"inputs": ROWS}),
    "decode": Route("tiny", {"latents": [[0, 1]]}),
    "reconstruct": Route("tiny", {"inputs": ROWS}),
    "denoise": Route("denoiser", {"inputs": ROWS}),
    "anomaly_score": Route("tiny", {"inputs": ROWS, "maps": True}),
    "sample": Route("vae", {"count": 2, "seed": 1}),
    "interpolate": Route("tiny", {"start": ROWS[0], "end": ROWS[1], "steps": 3}),
    "list_models": Route(""),
    "describe_model": Route("tiny"),
    "example": Route("tiny"),
    "live": Route(""),
    "ready": Route(""),
    "v2_server": Route(""),
    "v2_live": Route(""),
    "v2_ready": Route(""),
    "v2_index": Route("", {"ready": True}),
    "v2_load": Route("tiny", {"parameters": {"version": "1"}}),
    "v2_unload": Route("wide", {}),
    "v2_model": Route("tiny"),
    "v2_model_ready": Route("tiny"),
    "v2_infer": Route("tiny", {"inputs": [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}]}),
}
QUERY = {
    "log_variances": ("vae", "true"),
    "alpha": ("tiny", "0.5"),
    "threshold": ("tiny", "1"),
    "maps": ("tiny", "true"),
    "decimals": ("denoiser", "2"),
}


def route_of(operation: Documented) -> Route:
    return ROUTES[str(operation).removesuffix("_version")]


def path_of(operation: Documented, name: str | None = None) -> str:
    return operation.path.format(name=name or route_of(operation).name, version=1, index=0)


def content_of(media: str, operation: Documented) -> bytes:
    body = route_of(operation).body or {}
    buffer = io.BytesIO()
    match media:
        case "application/json":
            return json.dumps(body).encode()
        case "application/x-npy":
            return npy_from_rows(np.array(body.get("inputs", body.get("latents")), np.float32))
        case "application/x-ndjson":
            return b"".join(json.dumps(row).encode() + b"\n" for row in body.get("inputs") or body["latents"])
        case "image/png" | "image/jpeg":
            Image.new("L", (2, 2)).save(buffer, format=media.removeprefix("image/"))
            return buffer.getvalue()
        case "application/octet-stream":
            return binary_message()[0]
    raise AssertionError(f"the document names a media type that is not tested: {media}")


def binary_message() -> tuple[bytes, int]:
    """A request of the Open Inference Protocol with a raw tensor and a raw answer, and the length of its JSON."""
    rows = np.array(ROWS, "<f4").tobytes()
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(rows)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + rows, len(head)


def fields_for(media: str) -> dict[str, str]:
    binary = {"Inference-Header-Content-Length": str(binary_message()[1])}
    return {"Content-Type": media} | (binary if media == "application/octet-stream" else {})


# A scrape is text, in media types with parameters: it has tests of its own.
ANSWERS = [operation for operation in OPERATIONS if str(operation) != "metrics"]


@pytest.mark.parametrize("operation", ANSWERS, ids=str)
async def test_every_operation_answers_as_the_document_says(served: Served, operation: Documented) -> None:
    body = route_of(operation).body
    response = await served.client.request(operation.method, path_of(operation), json=body)
    assert response.status_code == 200, response.text
    assert_valid(served.app.openapi(), str(operation), response)


def media_types(operation: Documented) -> list[str]:
    return list(operation.content["requestBody"]["content"])


POSTS = [operation for operation in OPERATIONS if operation.method == "post"]


@pytest.mark.parametrize("operation", POSTS, ids=str)
async def test_every_example_of_a_request_can_be_sent_as_it_is(served: Served, operation: Documented) -> None:
    """The examples are for an imagined bundle with the tiny one's sizes."""
    for example in examples_of(operation.content["requestBody"]["content"]["application/json"]):
        response = await served.client.post(path_of(operation), json=example)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("operation", POSTS, ids=str)
async def test_every_media_type_of_a_request_is_read(served: Served, operation: Documented) -> None:
    for media in media_types(operation):
        content = content_of(media, operation)
        response = await served.client.post(path_of(operation), content=content, headers=fields_for(media))
        assert response.status_code == 200, (media, response.text)


@pytest.mark.parametrize("operation", ANSWERS, ids=str)
async def test_every_media_type_of_an_answer_can_be_had(served: Served, operation: Documented) -> None:
    for media in operation.content["responses"]["200"]["content"]:
        if media in {"application/octet-stream", "application/x-ndjson"}:  # as the request is, not by Accept
            content, fields = content_of(media, operation), fields_for(media)
            response = await served.client.post(path_of(operation), content=content, headers=fields)
            assert (response.status_code, response.headers["content-type"]) == (200, media)
            continue
        response = await served.client.request(
            operation.method, path_of(operation), json=route_of(operation).body, headers={"Accept": media}
        )
        assert (response.status_code, response.headers["content-type"]) == (200, media)


@pytest.mark.parametrize("operation", POSTS, ids=str)
async def test_every_query_parameter_is_taken_beside_a_binary_body(served: Served, operation: Documented) -> None:
    declared = [found["name"] for found in operation.content.get("parameters", []) if found["in"] == "query"]
    if "application/x-npy" in media_types(operation):
        fields = operation.content["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert declared == list(fields)[1:], "all but the tensor"
    else:
        assert declared == []
    for name in declared:
        bundle, value = QUERY[name]
        response = await served.client.post(
            path_of(operation, bundle),
            params={name: value},
            content=content_of("application/x-npy", operation),
            headers={"Content-Type": "application/x-npy"},
        )
        assert response.status_code == 200, response.text


async def test_the_document_is_served(served: Served) -> None:
    response = await served.get("/openapi.json")
    assert response.json() == served.app.openapi()
