"""The operations over `/v1`: a body in, an answer out. What they do stands in `service.operations`."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from fastapi import APIRouter, Response

from bundle.operations import Operation
from service.api.access_log import SERVED
from service.api.adapters import ADAPTERS, Adapter
from service.api.answers import SINGULAR, field_name, render
from service.api.aside import Aside
from service.api.bodies import Bodies
from service.api.deadlines import PARAMETER
from service.api.direct import DirectRoute
from service.api.limits import LARGE_ANSWER_NUMBERS, LARGE_BODY_BYTES, LARGE_DRAWN_PIXELS, LARGE_READ_PIXELS
from service.api.media import Media, answer_media, body_media, is_stream
from service.api.posted import Posted
from service.api.problems import problem_responses
from service.api.request_id import request_id_of
from service.api.requests import IMAGE_FORMATS, Body, Call, Form, parse
from service.api.streams import stream
from service.engine.loaded import LoadedModel
from service.engine.repository import Repository
from service.engine.timeline import TIMELINE
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    Draining,
    InvalidContent,
    LineTooLong,
    MalformedBody,
    MalformedField,
    ModelLoading,
    NotAcceptable,
    NotCalibrated,
    OperationNotSupported,
    OutOfMemory,
    Overloaded,
    PinnedVersionUnavailable,
    RequestTooSlow,
    TooManyPixels,
    TooManyRows,
    UnknownModel,
    UnknownVersion,
    UnsupportedMediaType,
)
from service.settings import Settings

__all__ = ["operations_router"]

PLAIN = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def operations_router(
    repository: Repository, settings: Settings, *, bodies: Bodies, aside: Aside, stopping: asyncio.Event
) -> APIRouter:
    """A path for each operation, on a bundle's newest version and on a named one. Streams end once `stopping`."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["operations"], route_class=DirectRoute)
    for adapter in ADAPTERS:
        responder = Responder(adapter, settings, bodies=bodies, aside=aside, stopping=stopping)
        for versioned in (False, True):
            router.add_api_route(
                f"{'/versions/{version}' if versioned else ''}/{adapter.operation.path}",
                _endpoint(responder.respond, adapter, repository, versioned=versioned),
                methods=["POST"],
                operation_id=f"{adapter.operation}{'_version' if versioned else ''}",
                summary=adapter.summary + (" (by a named version)" if versioned else ""),
                response_class=Response,
                response_model=None,
                responses={200: _answer_schema(adapter), **_problems(adapter)},
                openapi_extra={
                    "parameters": [PARAMETER, *_query_schema(adapter)],
                    "requestBody": _body_schema(adapter),
                },
            )
    return router


def _endpoint(
    respond: Callable[[Posted, LoadedModel], Awaitable[Response]],
    adapter: Adapter[Any],
    repository: Repository,
    *,
    versioned: bool,
) -> Callable[..., Awaitable[Response]]:
    def newest(request: Posted, name: str) -> Awaitable[Response]:
        return respond(request, repository.get(name))

    def named(request: Posted, name: str, version: str) -> Awaitable[Response]:
        return respond(request, repository.get(name, version))

    endpoint: Callable[..., Awaitable[Response]] = named if versioned else newest
    endpoint.__doc__ = adapter.request.__doc__
    return endpoint


class Responder:
    """What answers the requests for one operation, on whatever bundle."""

    def __init__(
        self, adapter: Adapter[Any], settings: Settings, *, bodies: Bodies, aside: Aside, stopping: asyncio.Event
    ) -> None:
        self._adapter = adapter
        self._settings = settings
        self._bodies = bodies
        self._aside = aside
        self._stopping = stopping
        self._forms: WeakKeyDictionary[LoadedModel, Form[Any]] = WeakKeyDictionary()

    async def respond(self, request: Posted, model: LoadedModel) -> Response:
        """The answer. Raises what the OpenAPI document lists."""
        adapter, max_rows = self._adapter, self._settings.max_rows
        model.require(adapter.operation)
        if adapter.binary and is_stream(request.field(b"content-type")):
            return await stream(adapter, request, model, self._settings, stopping=self._stopping)
        form = self._form(model)
        media = answer_media(request.field(b"accept"), possible=form.answerable)
        content = await self._bodies.read(request)
        declared = body_media(request.field(b"content-type"), content, readable=form.readable)
        timeline = TIMELINE.get()
        stage = timeline.begin("decode")
        call = await self._parsed(Body(content, declared, request.query), form)
        model.tally.decode_seconds.observe(stage.ends())
        request.scope[SERVED] = model, adapter.operation, max(map(len, call.rows.values()), default=0)
        if media is Media.PNG and adapter.operation is Operation.ANOMALY_SCORE:
            call = call._replace(parameters=call.parameters.model_copy(update={"maps": True}))
        numbers = adapter.numbers(model, call)
        self._bodies.hold_answer(request, numbers)
        answer = await adapter.carry_out(model, call, max_rows)
        write = partial(
            render,
            answer,
            media,
            model=model,
            request_id=request_id_of(request.scope),
            decimals=call.parameters.decimals,
        )
        stage = timeline.begin("encode")
        if media is Media.PNG and answer.size > LARGE_DRAWN_PIXELS:
            response = await asyncio.to_thread(write)
        elif numbers > LARGE_ANSWER_NUMBERS and answer.size > LARGE_ANSWER_NUMBERS:
            response = await self._aside.write(write)
        else:
            response = write()
        model.tally.encode_seconds.observe(stage.ends())
        return response

    def _form(self, model: LoadedModel) -> Form[Any]:
        form = self._forms.get(model)
        if form is None:
            settings = self._settings
            form = self._adapter.form(model, max_rows=settings.max_rows, max_pixels=settings.max_pixels)
            self._forms[model] = form
        return form

    async def _parsed(self, body: Body, form: Form[Any]) -> Call[Any]:
        if body.media in IMAGE_FORMATS and form.spec.size > LARGE_READ_PIXELS:
            return await asyncio.to_thread(parse, body, form)
        if len(body.content) > LARGE_BODY_BYTES:
            return await self._aside.read(partial(parse, body, form), len(body.content))
        return parse(body, form)


def _problems(adapter: Adapter[Any]) -> dict[int | str, dict[str, Any]]:
    errors: list[Any] = [
        MalformedBody,
        MalformedField,
        UnknownModel,
        UnknownVersion,
        NotAcceptable,
        OperationNotSupported,
    ]
    errors += [NotCalibrated] if adapter.operation is Operation.ANOMALY_SCORE else []
    errors += [BodyTooLarge, *([LineTooLong] if adapter.binary else []), TooManyRows]
    errors += [TooManyPixels] if "inputs" in adapter.request.model_fields else []
    errors += [UnsupportedMediaType, InvalidContent, ModelLoading, PinnedVersionUnavailable]
    return problem_responses(*errors, RequestTooSlow, Overloaded, OutOfMemory, Draining, DeadlineExceeded)


def _body_schema(adapter: Adapter[Any]) -> dict[str, Any]:
    schema = adapter.request.model_json_schema()
    example = schema.pop("examples")[0]
    content: dict[str, Any] = {Media.JSON: {"schema": schema, "example": example}}
    if adapter.binary:
        content[Media.NPY] = {"schema": {"type": "string", "format": "binary", "description": "numpy.save of the rows"}}
        rows = "one row a line, without end; blank lines do not count"
        line = orjson.dumps(example[next(iter(adapter.request.model_fields))][0]).decode()
        content[Media.NDJSON] = {"schema": {"type": "string", "description": rows}, "example": f"{line}\n{line}\n"}
    if "inputs" in adapter.request.model_fields:
        for media in (Media.PNG, Media.JPEG):
            content[media] = {"schema": {"type": "string", "format": "binary", "description": "one row as a picture"}}
    return {"required": True, "content": {str(media): entry for media, entry in content.items()}}


def _query_schema(adapter: Adapter[Any]) -> list[dict[str, Any]]:
    """The parameters beside a binary body. Without defaults: the docs page would send those with a JSON body too."""
    properties = adapter.request.model_json_schema()["properties"] if adapter.binary else {}
    parameters = []
    for name, schema in list(properties.items())[1:]:
        plain = schema.get("anyOf", [schema])[0]
        parameters.append(
            {
                "name": name,
                "in": "query",
                "description": f"only beside a body that is no JSON: {schema['description']}",
                "schema": {key: value for key, value in plain.items() if key in PLAIN},
            }
        )
    return parameters


def _answer_schema(adapter: Adapter[Any]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {Media.NPY.value: binary}
    if adapter.picture:
        content[Media.PNG.value] = binary
    if adapter.binary:
        content[Media.NDJSON.value] = _stream_schema(adapter)
    names = [name for name in adapter.answer.model_fields if name not in {"request_id", "warnings"}]
    described = "of an answer that is no JSON; `Diabolo-Omitted` lists those that are too long for a field"
    fields = {
        field_name(name): {"description": described, "schema": {"type": "string"}}
        for name in [*names, "omitted", "warnings"]
    }
    return {"model": adapter.answer, "description": "The answer", "content": content, "headers": fields}


def _stream_schema(adapter: Adapter[Any]) -> dict[str, Any]:
    (example,) = adapter.answer.model_json_schema()["examples"]
    row = {"index": 0} | {
        SINGULAR[name]: example[name][0] for name in adapter.answer.model_fields if name in SINGULAR and name in example
    }
    lines = [orjson.dumps(line).decode() + "\n" for line in (row, {"done": True, "rows": 1})]
    description = (
        "the answer to a body of lines, while that is still coming: for each line its `index` with the result or a "
        "`problem`, and at the end `done`; without that it was cut off"
    )
    return {"schema": {"type": "string", "description": description}, "example": "".join(lines)}
