"""The Open Inference Protocol, version 2: a thin adapter over the same operations, with errors as `{"error": ...}`."""

from collections.abc import Callable
from enum import Enum
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.access_log import SERVED
from service.api.aside import Aside
from service.api.bodies import Bodies
from service.api.deadlines import PARAMETER
from service.api.direct import DirectRoute
from service.api.limits import LARGE_ANSWER_NUMBERS, LARGE_BODY_BYTES, LARGE_RAW_BYTES
from service.api.openapi import json_body
from service.api.posted import Posted
from service.api.problems import failure_responses
from service.api.rendered import JSON_FIELDS, Rendered
from service.api.v2.infer import inputs_of, outputs_of, run, wanted
from service.api.v2.schemas import (
    Failure,
    InferAnswer,
    InferRequest,
    Metadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.api.v2.tensors import json_bytes, message_from, read_message, rows_from
from service.codecs.rows import RowSpec
from service.engine.loaded import LoadedModel
from service.engine.repository import Repository
from service.engine.timeline import TIMELINE
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    Draining,
    InvalidContent,
    MalformedBody,
    MalformedField,
    ModelLoading,
    NotCalibrated,
    OperationNotSupported,
    OutOfMemory,
    Overloaded,
    PinnedVersionUnavailable,
    RequestTooSlow,
    TooManyRows,
    UnknownModel,
    UnknownVersion,
    UnsupportedMediaType,
)
from service.operations import range_warning
from service.settings import Settings

__all__ = ["v2_health_router", "v2_router"]

TAGS: list[str | Enum] = ["open inference protocol"]
HEADER_LENGTH = b"inference-header-content-length"
OCTETS = ((b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store"))
HEADER_LENGTH_FIELD: dict[str, Any] = {
    "description": "the bytes of the JSON, where raw tensors follow it",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
}
HEADER_LENGTH_PARAMETER = {"name": "Inference-Header-Content-Length", "in": "header", **HEADER_LENGTH_FIELD}
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
UNKNOWN = (UnknownModel, UnknownVersion, ModelLoading, PinnedVersionUnavailable)
INFER_ERRORS = (
    MalformedBody,
    MalformedField,
    *UNKNOWN,
    OperationNotSupported,
    NotCalibrated,
    BodyTooLarge,
    TooManyRows,
    UnsupportedMediaType,
    InvalidContent,
    RequestTooSlow,
    Overloaded,
    OutOfMemory,
    Draining,
    DeadlineExceeded,
)


def v2_health_router(repository: Repository, draining: Callable[[], bool]) -> APIRouter:
    """Health, which is open to everybody."""
    router = APIRouter(prefix="/v2", tags=TAGS)

    @router.get("/health/live", operation_id="v2_live", summary="Does the process answer?")
    async def live() -> ServerLive:
        """Touches no bundle."""
        return ServerLive(live=True)

    @router.get(
        "/health/ready",
        operation_id="v2_ready",
        summary="Should traffic be sent here?",
        responses={
            503: {"model": ServerReady, "description": "Not now: starting, draining, or a bundle is not served"}
        },
    )
    async def ready(response: Response) -> ServerReady:
        """As `/readyz`."""
        state = ServerReady(live=True, ready=repository.ready and not draining())
        response.status_code = 200 if state.ready else 503
        return state

    return router


def v2_router(repository: Repository, settings: Settings, *, bodies: Bodies, aside: Aside) -> APIRouter:
    """Metadata and inference."""
    router = APIRouter(prefix="/v2", tags=TAGS)

    async def metadata() -> ServerMetadata:
        """Name, version and the extensions that this server has."""
        administered = settings.state_dir is not None and settings.api_keys_file is not None
        extensions = ["binary_tensor_data", *(["model_repository"] if administered else [])]
        return ServerMetadata(name="diabolo", version=version_of("diabolo"), extensions=extensions)

    for path in ("", "/"):
        router.add_api_route(
            path,
            metadata,
            methods=["GET"],
            operation_id="v2_server",
            summary="What this server is",
            include_in_schema=not path,
        )

    for versioned in (False, True):
        _add_model_routes(router, repository, settings, bodies=bodies, aside=aside, versioned=versioned)
    return router


def _add_model_routes(
    router: APIRouter, repository: Repository, settings: Settings, *, bodies: Bodies, aside: Aside, versioned: bool
) -> None:
    path, suffix = "/models/{name}" + ("/versions/{version}" if versioned else ""), "_version" if versioned else ""

    def route(tail: str, method: str, endpoint: Callable[..., Any], **documented: Any) -> None:
        """An endpoint(request, model) at this path, of the version that the path names or the newest."""

        async def newest(request: Request, name: str) -> Any:
            return await endpoint(request, repository.get(name))

        async def named(request: Request, name: str, version: str) -> Any:
            return await endpoint(request, repository.get(name, version))

        handler: Callable[..., Any] = named if versioned else newest
        handler.__doc__ = endpoint.__doc__
        router.add_api_route(path + tail, handler, methods=[method], **documented)

    async def ready(_: Request, model: LoadedModel) -> Response:
        """200 where the bundle can answer, 503 where it cannot at the moment."""
        state = ModelReady(name=model.manifest.name, ready=model.batcher.alive)
        return Response(state.model_dump_json(), 200 if state.ready else 503, media_type="application/json")

    async def describe(_: Request, model: LoadedModel) -> Metadata:
        """The tensors that the bundle takes and gives."""
        name = model.manifest.name
        return Metadata(
            name=name,
            versions=[str(version) for version in repository.versions(name)],
            platform=model.platform,
            inputs=inputs_of(model.manifest),
            outputs=outputs_of(model.manifest),
        )

    async def infer(request: Posted, model: LoadedModel) -> Response:
        return await _infer(request, model, settings, bodies=bodies, aside=aside)

    infer.__doc__ = InferRequest.__doc__
    unknown = failure_responses(*UNKNOWN)
    named = " (of a named version)" if versioned else ""
    route(
        "/ready",
        "GET",
        ready,
        operation_id=f"v2_model_ready{suffix}",
        summary=f"Can the bundle answer?{named}",
        response_class=Response,
        responses={
            200: {"model": ModelReady, "description": "Yes"},
            **unknown,
            503: {**unknown[503], "model": ModelReady | Failure, "headers": {}},
        },
    )
    route(
        "",
        "GET",
        describe,
        operation_id=f"v2_model{suffix}",
        summary=f"What the bundle takes and gives{named}",
        response_model=Metadata,
        responses=unknown,
    )
    route(
        "/infer",
        "POST",
        infer,
        route_class_override=DirectRoute,
        operation_id=f"v2_infer{suffix}",
        summary=f"Outputs for rows{named}",
        response_class=Response,
        responses={
            200: {
                "model": InferAnswer,
                "description": "The outputs",
                "content": BINARY,
                "headers": {HEADER_LENGTH_PARAMETER["name"]: HEADER_LENGTH_FIELD},
            },
            **failure_responses(*INFER_ERRORS),
        },
        openapi_extra={
            "parameters": [PARAMETER, HEADER_LENGTH_PARAMETER],
            "requestBody": json_body(InferRequest, required=True, more=BINARY),
        },
    )


def _is_large(content: bytes, header_length: str | None) -> bool:
    """True where the body is too much work for the event loop. Raw tensors are less than JSON of their size."""
    size = json_bytes(content, header_length)
    return size > LARGE_BODY_BYTES or len(content) - size > LARGE_RAW_BYTES


async def _infer(request: Posted, model: LoadedModel, settings: Settings, *, bodies: Bodies, aside: Aside) -> Response:
    content = await bodies.read(request)
    spec = RowSpec.of_inputs(model.manifest.input, settings.max_rows, pointer="#/inputs/0/data")
    header_length = request.field(HEADER_LENGTH)

    def parse() -> Any:
        message = read_message(content, header_length=header_length)
        asked = wanted(message.request, model.manifest)
        rows = rows_from(message, spec)
        return message.request, asked, rows, range_warning(model, rows)

    large = len(content) > LARGE_BODY_BYTES and _is_large(content, header_length)
    timeline = TIMELINE.get()
    stage = timeline.begin("decode")
    asked_for, asked, rows, warning = await aside.read(parse, len(content)) if large else parse()
    model.tally.decode_seconds.observe(stage.ends())
    request.scope[SERVED] = model, "infer", len(rows)
    bodies.hold_answer(request, model.numbers(len(rows)))
    outputs = await run(model, rows, asked)
    document: dict[str, Any] = {
        "model_name": model.manifest.name,
        "model_version": str(model.manifest.version),
    }
    if asked_for.id is not None:
        document["id"] = asked_for.id
    if warning is not None:
        document["parameters"] = {"warning": warning}
    write = partial(message_from, document, outputs)
    numbers = sum(output.values.size for output in outputs if not output.binary)
    stage = timeline.begin("encode")
    body, length = await aside.write(write) if numbers > LARGE_ANSWER_NUMBERS else write()
    model.tally.encode_seconds.observe(stage.ends())
    return Rendered(body, JSON_FIELDS if length is None else [*OCTETS, (HEADER_LENGTH, b"%d" % length)])
