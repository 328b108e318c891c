"""The short way to direct routes: who takes it, who does not, and that nobody can tell by the answer."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.compression import Compression
from service.api.direct import DirectApp, DirectRoute
from service.api.posted import Posted
from service.api.problems import handle_problems
from service.api.rendered import JSON_FIELDS, Rendered
from service.api.request_id import RequestId
from service.errors import UnknownModel


class Usual:
    """The first on the usual way: notes who goes there."""

    def __init__(self, app: ASGIApp, paths: list[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._paths.append(scope["path"])
        await self._app(scope, receive, send)


@pytest.fixture
def usual() -> list[str]:
    return []


@pytest.fixture
async def client(usual: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    router = APIRouter(prefix="/v1/models/{name}", route_class=DirectRoute)

    @router.post("/encode")
    async def encode(request: Posted, name: str) -> Response:
        return Response(f"{name}: {(await request.body()).decode()}")

    @router.post("/versions/{version}/encode")
    async def encode_version(_: Posted, name: str, version: str) -> Response:
        if name == "none":
            raise UnknownModel("no model is called 'none'")
        if name == "bug":
            raise RuntimeError("a bug")
        return Response(f"{name} {version}")

    @router.post("/reconstruct")
    async def reconstruct(request: Posted, name: str) -> Response:
        return Rendered(b'"' + name.encode() * int(request.query[0][1]) + b'"', JSON_FIELDS)

    app = DirectApp()
    app.shorten([route for route in router.routes if isinstance(route, DirectRoute)], compress_bytes=1000)
    app.add_middleware(Compression, min_bytes=1000)
    app.add_middleware(RequestId)
    app.add_middleware(Usual, paths=usual)
    handle_problems(app)
    app.include_router(router)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models/a/encode", "a: rows"),
        ("/v1/models/a%20b/encode?alpha=1", "a b: rows"),
        ("/v1/models/a/versions/7/encode", "a 7"),
    ],
)
async def test_a_post_to_a_direct_route_goes_there_at_once(
    client: httpx.AsyncClient, usual: list[str], path: str, answer: str
) -> None:
    response = await client.post(path, content="rows")
    assert (response.status_code, response.text, usual) == (200, answer, [])
    assert "x-request-id" in response.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/a/encode", 405),
        ("POST", "/v1/models/a/decode", 404),
        ("POST", "/v1/models//encode", 404),
        ("POST", "/v1/models/a/versions//encode", 404),
        ("POST", "/v2/models/a/encode", 404),
        ("POST", "/v1/models/a/encode/", 307),
        ("POST", "/", 404),
    ],
)
async def test_everything_else_goes_the_usual_way(
    client: httpx.AsyncClient, usual: list[str], method: str, path: str, status: int
) -> None:
    assert (await client.request(method, path)).status_code == status
    assert usual == [path]


@pytest.mark.parametrize(("name", "status", "slug"), [("none", 404, "unknown-model"), ("bug", 500, "internal-error")])
async def test_what_fails_on_the_short_way_is_the_problem_that_it_would_have_been(
    client: httpx.AsyncClient, usual: list[str], name: str, status: int, slug: str
) -> None:
    response = await client.post(f"/v1/models/{name}/versions/1/encode", headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.json()["type"], usual) == (status, f"/problems/{slug}", [])
    assert response.headers.get_list("x-request-id") == ["mine"]


@pytest.mark.parametrize("path", ["/v1/models/a/reconstruct", "/mounted/v1/models/a/reconstruct"])
@pytest.mark.parametrize(("length", "coding"), [(10, None), (2000, "gzip")])
async def test_answers_are_compressed_on_both_ways_alike(
    client: httpx.AsyncClient, usual: list[str], path: str, length: int, coding: str | None
) -> None:
    """A prefix that a proxy has cut off is in the scope as `root_path`, and leads the usual way."""
    client._transport.root_path = path.removesuffix("/v1/models/a/reconstruct")  # type: ignore[attr-defined]
    response = await client.post(f"{path}?length={length}", headers={"Accept-Encoding": "gzip"})
    assert (response.text, response.headers.get("content-encoding")) == (f'"{"a" * length}"', coding)
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    assert response.headers["content-type"] == "application/json"
    assert len(usual) == path.startswith("/mounted")


async def test_lines_of_one_field_are_one_list(client: httpx.AsyncClient) -> None:
    headers = [("Accept-Encoding", "br"), ("Accept-Encoding", "gzip")]
    response = await client.post("/v1/models/a/reconstruct?length=2000", headers=headers)
    assert response.headers["content-encoding"] == "gzip"
