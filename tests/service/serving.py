"""The app over tiny bundles, in this process: a real folder, a fake runtime, no socket."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jsonschema
from fastapi import FastAPI

from bundle.operations import Family
from bundle.read import Bundle
from service.api.schemas import Problem
from service.app import create_app
from service.engine.repository import Repository
from service.engine.runtimes import Runtime
from service.errors import ServiceError
from service.settings import Settings
from tests.bundle_factory import make_files, publish
from tests.service.programs import FakeRuntime, Program
from tests.service.repositories import publish_wide, run_wide

__all__ = ["ROWS", "Served", "assert_problem", "assert_valid", "problem_of_line", "publish_all", "serving"]

# Two rows of the tiny bundle, exact in float32 and in JSON.
ROWS = [[0.0, 0.25, 0.5, 1.0], [1.0, 0.5, 0.25, 0.0]]


class Served(NamedTuple):
    """The app, a client of it, and the program that all its bundles of four values share."""

    app: FastAPI
    client: httpx.AsyncClient
    program: Program

    @property
    def repository(self) -> Repository:
        """What the app serves from."""
        repository: Repository = self.app.state.repository
        return repository

    async def post(self, path: str, /, **arguments: Any) -> httpx.Response:
        """The answer to a POST at this path below /v1/models/."""
        return await self.client.post(f"/v1/models/{path}", **arguments)

    async def get(self, path: str, /, **arguments: Any) -> httpx.Response:
        """The answer to a GET at this path."""
        return await self.client.get(path, **arguments)


def publish_all(root: Path) -> Path:
    """A bundle of each kind is in the folder: tiny/1 and tiny/2, denoiser, vae, the uncalibrated raw, and wide."""
    publish(root, version=1)
    publish(root, version=2)
    publish(root, name="denoiser", family=Family.DENOISING)
    publish(root, name="vae", family=Family.VARIATIONAL)
    files = {name: content for name, content in make_files().items() if name != "calibration.npy"}
    publish(root, name="raw", calibration=None, files=files)
    publish_wide(root)
    return root


@contextlib.asynccontextmanager
async def serving(models: Path, program: Program | None = None, **settings: Any) -> AsyncIterator[Served]:
    """The app has gone through the folder once and is up; it is shut down at the end."""
    shared = program or Program()

    def open_runtime(bundle: Bundle) -> Runtime:
        return FakeRuntime(run_wide if bundle.manifest.name == "wide" else shared)

    # Programs that wait at a gate do so on their thread: the gate is opened from the event loop.
    fixed = {"models_dir": models, "poll_seconds": 3600, "inline_ms": 0}
    app = create_app(Settings(**{**fixed, **settings}), open_runtime=open_runtime)
    await app.state.administration.follow()
    await app.state.repository.refresh()
    shared.batches.clear()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo") as client,
    ):
        yield Served(app, client, shared)


def assert_valid(document: dict[str, Any], operation_id: str, response: httpx.Response) -> None:
    """The JSON of the response is what the OpenAPI document promises for this operation, status and media type."""
    (operation,) = (
        operation
        for operations in document["paths"].values()
        for operation in operations.values()
        if operation["operationId"] == operation_id
    )
    media = response.headers["content-type"]
    schema = operation["responses"][str(response.status_code)]["content"][media]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(response.json())


def assert_problem(response: httpx.Response, error: type[ServiceError]) -> dict[str, Any]:
    """The response is a problem document of this kind, whole and consistent; returned as parsed."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = response.json()
    assert set(problem) <= set(Problem.model_fields)
    Problem.model_validate(problem, strict=True)
    assert (problem["type"], problem["title"]) == (f"/problems/{error.slug}", error.title), problem["detail"]
    assert (problem["status"], response.status_code) == (error.status, error.status)
    assert problem["request_id"] == response.headers["x-request-id"]
    if error.status in {429, 503}:
        assert response.headers["retry-after"] == str(problem["retry_after_s"])
        assert problem["retry_after_s"] >= 1
    else:
        assert "retry-after" not in response.headers
    return problem


async def problem_of_line(served: Served, path: str, line: str) -> httpx.Response:
    """The problem that a stream of this line has in its place, as if it were a response of its own."""
    response = await served.post(path, content=line.encode(), headers={"Content-Type": "application/x-ndjson"})
    problem = json.loads(response.text.splitlines()[0])["problem"]
    fields = {"Content-Type": "application/problem+json", "X-Request-ID": response.headers["x-request-id"]}
    fields["Cache-Control"] = response.headers["cache-control"]
    return httpx.Response(problem["status"], json=problem, headers=fields, request=response.request)
