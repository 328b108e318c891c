"""The model repository extension of the Open Inference Protocol: what there is, and what of it is wanted."""

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.bodies import Bodies
from service.api.openapi import json_body
from service.api.posted import Posted
from service.api.problems import failure_responses
from service.api.requests import load_json, validate
from service.api.schemas import whole
from service.api.v2.schemas import (
    IndexEntry,
    IndexRequest,
    LoadRequest,
    Parameters,
    PendingWorker,
    RepositoryAnswer,
    UnloadRequest,
)
from service.codecs.pointers import escape
from service.engine.administration import Administration, Outcome
from service.engine.repository import Repository
from service.errors import (
    BodyTooLarge,
    Fault,
    InvalidContent,
    MalformedBody,
    ModelLoading,
    NoStateKept,
    RequestTooSlow,
    StateDamaged,
    StateUnavailable,
    UnknownModel,
    UnknownVersion,
    UnsupportedMediaType,
    VersionRefused,
)

__all__ = ["administration_router", "index_router"]

NEWEST = "newest"
BODY_ERRORS = (MalformedBody, RequestTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidContent)
STATE_ERRORS = (NoStateKept, StateDamaged, ModelLoading, StateUnavailable)
VERSION = re.compile(r"[1-9][0-9]{0,17}")


def index_router(repository: Repository, *, bodies: Bodies) -> APIRouter:
    """The index."""
    router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])

    @router.post(
        "/index",
        operation_id="v2_index",
        summary="Every version, whether it can answer or not",
        responses={
            200: {"content": {"application/json": {"example": [IndexEntry.model_json_schema()["examples"][0]]}}},
            **failure_responses(*BODY_ERRORS),
        },
        openapi_extra={"requestBody": json_body(IndexRequest, required=False)},
    )
    async def index(request: Request) -> list[IndexEntry]:
        """Versions that cannot answer say why. `{"ready": true}` lists only what can."""
        content = await _content_of(request, bodies)
        asked = validate(IndexRequest, load_json(content), strict=True) if content else IndexRequest()
        return _index(repository, only_ready=asked.ready)

    return router


def administration_router(repository: Repository, administration: Administration, *, bodies: Bodies) -> APIRouter:
    """Load and unload."""
    router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])

    async def parameters_of(request: Request, schema: type[LoadRequest | UnloadRequest]) -> Parameters:
        content = await _content_of(request, bodies)
        return validate(schema, load_json(content), strict=True).parameters if content else {}

    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": RepositoryAnswer, "description": "In force in every live worker"},
        202: {
            "model": RepositoryAnswer,
            "description": "Written down, but not in force in every live worker yet; `pending` lists the others",
            "content": {"application/json": {"example": RepositoryAnswer.model_json_schema()["examples"][1]}},
        },
    }

    @router.post(
        "/models/{name}/load",
        operation_id="v2_load",
        summary="Load a bundle, pin a version of it, or let the newest answer again",
        response_class=Response,
        responses={
            **answers,
            **failure_responses(*BODY_ERRORS, UnknownModel, UnknownVersion, VersionRefused, *STATE_ERRORS),
        },
        openapi_extra={"requestBody": json_body(LoadRequest, required=False)},
    )
    async def load(request: Request, name: str) -> Response:
        """Without `version` the bundle is loaded if it was unloaded, and stays pinned if it was. Where the version
        cannot be served nothing changes. Needs `DIABOLO_STATE_DIR`."""
        version = _version(await parameters_of(request, LoadRequest))
        if version is None:
            outcome = await administration.load(name)
        elif version == NEWEST:
            outcome = await administration.unpin(name)
        else:
            outcome = await administration.pin(name, int(version))
        return _answer(name, outcome, repository)

    @router.post(
        "/models/{name}/unload",
        operation_id="v2_unload",
        summary="Take all versions of a bundle out of memory",
        response_class=Response,
        responses={**answers, **failure_responses(*BODY_ERRORS, UnknownModel, *STATE_ERRORS)},
        openapi_extra={"requestBody": json_body(UnloadRequest, required=False)},
    )
    async def unload(request: Request, name: str) -> Response:
        """What was accepted is answered first. A bundle that is unloaded is not found (404) until it is loaded again,
        also after a restart. Needs `DIABOLO_STATE_DIR`."""
        _check_unload(await parameters_of(request, UnloadRequest))
        return _answer(name, await administration.unload(name), repository)

    return router


async def _content_of(request: Request, bodies: Bodies) -> bytes:
    posted = Posted.of(request)
    try:
        return await bodies.read(posted)
    finally:
        bodies.release(posted)


def _version(parameters: Parameters) -> str | None:
    """The version that is asked for. Raises InvalidContent."""
    for parameter in parameters:
        if parameter != "version":
            raise InvalidContent(
                "bundles carry their own configuration: load takes none",
                faults=[Fault("unknown parameter; the only one is version", f"#/parameters/{escape(parameter)}")],
            )
    value = whole(parameters.get("version"))
    if value is None:
        return None
    if isinstance(value, bool) or not (value == NEWEST or VERSION.fullmatch(str(value))):
        raise InvalidContent(
            "no such version can be",
            faults=[Fault(f'a version is a whole number such as "2", or "{NEWEST}"', "#/parameters/version")],
        )
    return str(value)


def _check_unload(parameters: Parameters) -> None:
    """Raises InvalidContent."""
    for parameter, value in parameters.items():
        if parameter != "unload_dependents":
            raise InvalidContent(
                "unload takes all versions of the name out of memory; to take out one, remove its folder",
                faults=[
                    Fault("unknown parameter; the only one is unload_dependents", f"#/parameters/{escape(parameter)}")
                ],
            )
        if not isinstance(value, bool):
            raise InvalidContent(
                "unload_dependents is true or false",
                faults=[Fault("true or false belongs here", "#/parameters/unload_dependents")],
            )


def _answer(name: str, outcome: Outcome, repository: Repository) -> Response:
    wish = repository.wanted.of(name)
    answering = next((model for model in repository.answering() if model.manifest.name == name), None)
    pending = [PendingWorker(worker=worker, reason=reason) for worker, reason in sorted(outcome.pending.items())]
    document = RepositoryAnswer(
        name=name,
        state="READY" if answering and answering.batcher.alive else "UNAVAILABLE",
        version=str(answering.manifest.version) if answering else None,
        pinned=str(wish.pinned) if wish.pinned else None,
        revision=outcome.revision,
        pending=pending,
    )
    if pending:
        late = "; ".join(f"{worker.worker}: {worker.reason}" for worker in pending)
        document.error = f"this was written down, but is not in force in every worker yet: {late}"
    content = document.model_dump_json(exclude={"error"} if document.error is None else None)
    return Response(content, 202 if pending else 200, {"Cache-Control": "no-store"}, "application/json")


def _index(repository: Repository, *, only_ready: bool) -> list[IndexEntry]:
    reasons = {key: str(refusal) for key, refusal in repository.refused.items()}
    reasons |= dict.fromkeys(repository.unloaded, "unloaded")
    ready = {key for key, model in repository.loaded.items() if model.batcher.alive}
    for key, model in repository.loaded.items():
        # What is loaded may have been damaged on disk since: it is served, but would not be loaded again.
        reasons.setdefault(key, model.batcher.fault or "")
    return [
        IndexEntry(name=key[0], version=str(key[1]), state="READY" if key in ready else "UNAVAILABLE", reason=reason)
        for key, reason in sorted(reasons.items())
        if key in ready or not only_ready
    ]
