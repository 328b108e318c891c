"""The error handler: every refusal becomes a problem document (RFC 9457), under `/v2` an `{"error": ...}`. Nothing
internal gets into either."""

import html
import logging
import random
from collections.abc import Callable
from functools import partial
from inspect import cleandoc
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from service.api.pages import page_fields
from service.api.request_id import request_id_of
from service.api.schemas import Problem
from service.api.v2.schemas import Failure
from service.errors import (
    Fault,
    InternalError,
    InvalidContent,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    error_classes,
)

__all__ = [
    "MEDIA_TYPE",
    "failure_responses",
    "handle_problems",
    "instance_of",
    "problem_document",
    "problem_responses",
    "refusal",
    "refusal_of_bug",
    "router",
]

MEDIA_TYPE = "application/problem+json"
TO_BE_RETRIED = (429, 503)
RETRY_AFTER = {"description": "seconds", "required": True, "schema": {"type": "integer", "minimum": 1}}
logger = logging.getLogger("diabolo.api")
router = APIRouter()

# For each error a sentence as the service would write it, for the OpenAPI page.
EXAMPLE_DETAILS = {
    "malformed-body": "the body is not JSON: unexpected end of data: line 1 column 12 (char 11)",
    "malformed-field": "Request-Timeout-Ms must be a whole number of milliseconds from 1 on, such as 250",
    "malformed-request": "this is no request of HTTP/1.1",
    "unauthenticated": "this needs an API key: send it as Authorization: Bearer <key>, or as X-API-Key: <key>",
    "administration-off": "this service was started without DIABOLO_API_KEYS_FILE, so nobody may do this",
    "scope-missing": "this needs a key with the scope admin; this key has infer",
    "not-found": "there is nothing at this path; /docs lists what there is",
    "unknown-model": "no model is called 'pump'; served here: fashion-vae, pumps",
    "unknown-version": "pumps has no version '9'; it has 1, 2",
    "unknown-example": "pumps carries 16 examples, counted from 0; there is no '99'",
    "method-not-allowed": "GET is not allowed here; allowed: POST",
    "not-acceptable": "this answer can be given as application/json, application/x-npy",
    "operation-not-supported": "pumps/1 is a vanilla bundle and cannot sample; it can encode, decode, reconstruct",
    "no-state-kept": "this service was started without DIABOLO_STATE_DIR, so it cannot keep what is wanted",
    "state-damaged": "desired.json is wrong: models.pumps.pinned: Input should be a valid integer",
    "version-refused": "pumps cannot be served: version 3: hash-mismatch: the bytes of model.pt are not those that "
    "were published (SHA-256 differs)",
    "pinned-version-unavailable": "pumps is pinned: version 3 is not in the folder",
    "state-unavailable": "desired.json cannot be written: No space left on device",
    "not-calibrated": "pumps/1 is not calibrated: give a threshold, or neither",
    "body-too-large": "the body has more than the 33554432 bytes that are read",
    "line-too-long": "the line has more than the 1048576 bytes that are read",
    "too-many-rows": "5000 rows were sent, at most 4096 are taken at a time",
    "too-many-pixels": "the picture has 3600000000 pixels, at most 16777216 are decoded",
    "unsupported-media-type": "this operation reads application/json, application/x-npy, not text/csv",
    "invalid-content": "inputs must be an array of rows of 4 numbers",
    "internal-error": "the service failed; its log has the cause under this request_id",
    "model-loading": "the bundles are still being loaded",
    "overloaded": "8192 rows are waiting and at most 8192 may",
    "deadline-exceeded": "the answer was not there within 250 ms",
    "rate-limited": "this key may ask 50 times a second, 100 times at once",
    "head-too-large": "the request's head has more than the 65536 bytes that are read",
    "out-of-memory": "memory does not suffice for these rows at the moment",
    "request-too-slow": "the body did not come in time: 1024 bytes of it in 30 s",
    "draining": "this bundle takes no new work",
}


def handle_problems(app: FastAPI) -> None:
    """From here on every error of the app is answered as a problem document."""

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return refusal(request.scope, error)

    async def refuse_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [Fault(fault["msg"], "#/" + "/".join(map(str, fault["loc"][1:]))) for fault in error.errors()]
        return refusal(request.scope, InvalidContent("the request's parameters are not valid", faults=faults))

    async def refuse_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            problem = MethodNotAllowed(f"{request.method} is not allowed here; allowed: {allowed}")
            return refusal(request.scope, problem, headers={"Allow": allowed})
        return refusal(request.scope, NotFound("there is nothing at this path; /docs lists what there is"))

    async def refuse_bug(request: Request, error: Exception) -> Response:
        # Starlette sends this answer from outside all middleware, so nobody else adds the field.
        return refusal_of_bug(request.scope, error, headers={"X-Request-ID": request_id_of(request.scope)})

    async def forget(request: Request, error: Exception) -> Response:
        logger.info("request %s: %s", request_id_of(request.scope), error or "its client went away")
        return Response(status_code=400)

    app.add_exception_handler(ServiceError, refuse)
    app.add_exception_handler(RequestValidationError, refuse_validation)
    app.add_exception_handler(HTTPException, refuse_http)
    app.add_exception_handler(ClientDisconnect, forget)
    app.add_exception_handler(Exception, refuse_bug)


def problem_responses(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """These errors as OpenAPI responses, with an example of each."""
    return _responses(errors, Problem, MEDIA_TYPE, partial(problem_document, draw=lambda: 0.0))


def failure_responses(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The same in the form of the Open Inference Protocol."""
    return _responses(errors, Failure, "application/json", lambda error: {"error": _failure(error)})


def _responses(
    errors: tuple[type[ServiceError], ...],
    schema: type[BaseModel],
    media_type: str,
    document: Callable[[ServiceError], dict[str, Any]],
) -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {}
    table: tuple[type[ServiceError], ...] = (*errors, InternalError)
    for error in table:
        response = responses.setdefault(error.status, {"model": schema, "description": "", "content": {}})
        response["description"] += f"{' / ' if response['description'] else ''}{error.title}"
        examples = response["content"].setdefault(media_type, {"examples": {}})["examples"]
        examples[error.slug] = {"summary": error.title, "value": document(error(EXAMPLE_DETAILS[error.slug]))}
        if error.status in TO_BE_RETRIED:
            response["headers"] = {"Retry-After": RETRY_AFTER}
    return responses


@router.get("/problems/{slug}", include_in_schema=False)
async def problem_page(slug: str) -> Response:
    """The page that a problem document's `type` leads to."""
    for error in error_classes():
        if error.slug == slug:
            text = html.escape(" ".join(cleandoc(error.__doc__ or "").split()))
            title = f"{error.status} {html.escape(error.title)}"
            page = f"<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1><p>{text}</p></html>"
            return Response(page, headers=page_fields(page.encode()), media_type="text/html")
    raise NotFound("there is no problem of that name")


def problem_document(
    error: ServiceError,
    *,
    instance: str = "/v1/models/pumps",
    request_id: str = "0f8fad5b",
    draw: Callable[[], float] = random.random,
) -> dict[str, Any]:
    """The refusal as RFC 9457 has it. Who is to come again is told when, in whole seconds: at the error's own time or
    up to once as much later, by `draw` in [0, 1). So not all who were refused together come back together."""
    document: dict[str, Any] = {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
        "request_id": request_id,
    }
    if error.faults:
        document["errors"] = [fault._asdict() for fault in error.faults]
    if error.status in TO_BE_RETRIED:
        seconds = error.retry_after or 1
        document["retry_after_s"] = seconds + int(draw() * (seconds + 1))
    return document


def instance_of(scope: Scope) -> str:
    """The path that was asked for."""
    # Not Starlette's URL: putting that together fails on a query that is no UTF-8.
    return quote(scope["path"][:256])


def _failure(error: ServiceError) -> str:
    """The refusal with its faults in one text, which is all that the Open Inference Protocol has a place for."""
    faults = [f"{fault.pointer}: {fault.detail}" for fault in error.faults if fault.detail != error.detail]
    return "; ".join([error.detail, *faults])


def refusal(scope: Scope, error: ServiceError, *, headers: dict[str, str] | None = None) -> Response:
    """The response that says so, in the form of the protocol that was spoken."""
    scope["refused"] = error.slug
    document = problem_document(error, instance=instance_of(scope), request_id=request_id_of(scope))
    fields = {"Cache-Control": "no-store", **(headers or {}), **error.headers}
    if error.status in TO_BE_RETRIED:
        fields["Retry-After"] = str(document["retry_after_s"])
    if scope["path"] == "/v2" or scope["path"].startswith("/v2/"):
        return Response(orjson.dumps({"error": _failure(error)}), error.status, fields, "application/json")
    return Response(orjson.dumps(document), error.status, fields, MEDIA_TYPE)


def refusal_of_bug(scope: Scope, bug: Exception, *, headers: dict[str, str] | None = None) -> Response:
    """The response to a request that failed by a fault of the service; the log has the cause."""
    logger.error("request %s failed", request_id_of(scope), exc_info=bug)
    problem = InternalError("the service failed; its log has the cause under this request_id")
    return refusal(scope, problem, headers=headers)
