"""Every way to be refused, over HTTP: the whole table of errors, and nothing internal in any of it."""

import asyncio
import io
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bundle.calibration import Floats
from bundle.operations import Method
from service import errors
from service.app import create_app
from service.engine.desired import Desired, Wish
from service.engine.repository import Repository
from service.errors import ServiceError, error_classes
from service.settings import Settings
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, assert_problem, problem_of_line, serving

LIMITS: dict[str, Any] = {"max_rows": 8, "max_pending_rows": 8, "max_body_bytes": 2_000, "max_pixels": 100}
LIMITS["max_line_bytes"] = 40
# A value that bodies hold and no problem document may repeat.
VALUE = 0.7314159
ROW = [VALUE] * 4


def fails_on_666(_: Method, rows: Floats) -> None:
    if (rows == 666).any():
        raise RuntimeError("secret")
    if (rows == 777).any():
        raise MemoryError("secret")


async def post(served: Served, path: str, /, **fields: object) -> httpx.Response:
    return await served.post(path, json=fields)


async def model_loading(_: Served) -> httpx.Response:
    app = create_app(Settings(models_dir=Path("nowhere")), open_runtime=lambda _: pytest.fail("nothing is opened"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://diabolo") as client:
        return await client.post("/v1/models/tiny/encode", json={"inputs": [ROW]})


async def overloaded(served: Served) -> httpx.Response:
    served.program.hold()
    first = asyncio.create_task(post(served, "tiny/encode", inputs=[ROW] * 8))
    await served.program.entered()
    response = await post(served, "tiny/encode", inputs=[ROW])
    served.program.release()
    assert (await first).status_code == 200
    return response


async def request_too_slow(served: Served) -> httpx.Response:
    served.app.state.bodies._clock = itertools.count(step=60.0).__next__  # every look at it is a minute later

    async def body() -> AsyncIterator[bytes]:
        yield b'{"inputs": '
        yield json.dumps([ROW]).encode()
        yield b"}"

    return await served.post("tiny/encode", content=body())


async def deadline_exceeded(served: Served) -> httpx.Response:
    served.program.hold()
    body = {"inputs": [ROW]}
    response = await served.post("tiny/encode", json=body, headers={"Request-Timeout-Ms": "1"})
    served.program.release()
    return response


async def draining(served: Served) -> httpx.Response:
    await served.repository.get("tiny").batcher.close(5)
    return await post(served, "tiny/encode", inputs=[ROW])


async def too_many_pixels(served: Served) -> httpx.Response:
    buffer = io.BytesIO()
    Image.new("1", (60_000, 100)).save(buffer, format="PNG")
    return await served.post("tiny/encode", content=buffer.getvalue(), headers={"Content-Type": "image/png"})


async def pinned_version_unavailable(served: Served) -> httpx.Response:
    for wish in (Wish(unloaded=True), Wish(pinned=9)):
        served.repository.want(Desired(models={"tiny": wish}))
    await served.repository.refresh()
    return await post(served, "tiny/encode", inputs=[ROW])


Refused = Callable[[Served], Awaitable[httpx.Response]]
REQUESTS: dict[type[ServiceError], Refused] = {
    errors.MalformedBody: lambda served: served.post("tiny/encode", content=f'{{"inputs": [[{VALUE}'.encode()),
    errors.MalformedField: lambda served: served.post("tiny/encode", headers={"Request-Timeout-Ms": "soon"}),
    errors.NotFound: lambda served: served.get("/v9/models"),
    errors.UnknownModel: lambda served: served.get("/v1/models/nobody"),
    errors.UnknownVersion: lambda served: served.get("/v1/models/tiny/versions/9"),
    errors.UnknownExample: lambda served: served.get("/v1/models/tiny/examples/99"),
    errors.MethodNotAllowed: lambda served: served.get("/v1/models/tiny/encode"),
    errors.NotAcceptable: lambda served: served.post("tiny/encode", headers={"Accept": "text/html"}),
    errors.OperationNotSupported: lambda served: post(served, "tiny/sample", count=1),
    errors.NotCalibrated: lambda served: post(served, "raw/anomaly-score", inputs=[ROW], alpha=0.1),
    errors.BodyTooLarge: lambda served: post(served, "tiny/encode", inputs=[ROW] * 100),
    errors.LineTooLong: lambda served: problem_of_line(served, "tiny/encode", json.dumps([VALUE] * 40)),
    errors.TooManyRows: lambda served: post(served, "tiny/encode", inputs=[ROW] * 9),
    errors.TooManyPixels: too_many_pixels,
    errors.UnsupportedMediaType: lambda served: served.post("tiny/encode", headers={"Content-Type": "text/csv"}),
    errors.InvalidContent: lambda served: post(served, "tiny/encode", inputs=[[VALUE, "secret", VALUE, VALUE]]),
    errors.InternalError: lambda served: post(served, "tiny/encode", inputs=[[666, VALUE, VALUE, VALUE]]),
    errors.ModelLoading: model_loading,
    errors.Overloaded: overloaded,
    errors.OutOfMemory: lambda served: post(served, "tiny/encode", inputs=[[777, VALUE, VALUE, VALUE]]),
    errors.RequestTooSlow: request_too_slow,
    errors.DeadlineExceeded: deadline_exceeded,
    errors.Draining: draining,
    errors.PinnedVersionUnavailable: pinned_version_unavailable,
}
# Of the administration, of keys and of the server: test_v2_repository.py, test_auth.py and test_slow_clients.py.
OF_ADMINISTRATION = {errors.NoStateKept, errors.StateDamaged, errors.StateUnavailable, errors.VersionRefused}
OF_KEYS = {errors.Unauthenticated, errors.AdministrationOff, errors.ScopeMissing, errors.RateLimited}
ELSEWHERE = OF_ADMINISTRATION | OF_KEYS | {errors.HeadTooLarge, errors.MalformedRequest}


@pytest.mark.parametrize(
    "error", [error for error in error_classes() if error not in ELSEWHERE], ids=lambda error: error.slug
)
async def test_every_error_of_the_table_is_a_problem_document_without_internals(
    models: Path, error: type[ServiceError]
) -> None:
    async with serving(models, Program(fails_on_666), **LIMITS) as served:
        response = await REQUESTS[error](served)
        problem = assert_problem(response, error)
        assert problem["instance"] == response.request.url.path
        for internal in ("secret", str(VALUE), str(models), "Traceback", ".py", "Error("):
            assert internal not in response.text
        page = await served.get(problem["type"])
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f"<h1>{error.status} {error.title}</h1>" in page.text


async def test_there_is_no_page_for_a_problem_that_there_is_not(served: Served) -> None:
    assert_problem(await served.get("/problems/nothing"), errors.NotFound)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", r"the body is not JSON: it is empty"),
        (b"{", r"the body is not JSON: .*line 1 column 2"),
        (b'{"inputs": [[NaN, 0, 0, 0]]}', r"JSON has no NaN and no Infinity$"),
        (b'{"inputs": [[-Infinity, 0, 0, 0]]}', r"JSON has no NaN and no Infinity$"),
        (b'{"inputs": [[1e999, 0, 0, 0]]}', r"the body is not JSON: "),
        (b'{"inputs": [[0, 0, 0, 0],]}', r"line 1 column 25"),
        (b'{"inputs": "\xff"}', r"the body is not JSON: "),
        (b'{"inputs": ' + b"[" * 1_000_000, r"the body is not JSON: "),
        (b'{"inputs": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", r"the body is not JSON: "),
    ],
)
async def test_what_is_no_json_is_malformed_and_says_where(served: Served, content: bytes, detail: str) -> None:
    problem = assert_problem(await served.post("tiny/encode", content=content), errors.MalformedBody)
    assert re.search(detail, problem["detail"])
    assert len(problem["detail"]) < 200


@pytest.mark.parametrize("content", [b"[]", b"[[0, 0, 0, 0]]", b'"x"', b"1", b"null"])
async def test_json_that_is_no_object_is_invalid(served: Served, content: bytes) -> None:
    problem = assert_problem(await served.post("tiny/encode", content=content), errors.InvalidContent)
    assert problem["errors"] == [{"detail": "an object with the request's fields belongs here", "pointer": "#"}]


async def test_a_deeply_nested_row_is_only_a_wrong_shape(served: Served) -> None:
    content = b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}"
    assert_problem(await served.post("tiny/encode", content=content), errors.InvalidContent)


NAMES = [
    "%2e%2e",
    "%2e%2e%2fx",
    "..%2f..%2fetc%2fpasswd",
    "a%00b",
    "%00",
    "TINY",
    "tiny%20",
    "%ff",
    "%F0%9F%91%9F",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
async def test_a_hostile_name_is_an_unknown_model_and_touches_no_file(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(name: str) -> list[httpx.Response]:
        return [
            await served.get(f"/v1/models/{name}"),
            await served.get(f"/v1/models/{name}/versions/1"),
            await served.get(f"/v1/models/{name}/examples/0"),
            await served.post(f"{name}/encode", json={"inputs": ROWS}),
            await served.post(f"{name}/versions/1/encode", json={"inputs": ROWS}),
        ]

    await ask("nobody")  # the first request to a route makes FastAPI read its source
    touched: list[object] = []
    with monkeypatch.context() as patch:
        for function in ("os.open", "os.listdir", "os.scandir", "os.stat", "builtins.open", "io.open"):
            patch.setattr(function, lambda *arguments, **_: touched.append(arguments))
        responses = await ask(name)
    assert touched == []
    for response in responses:
        problem = assert_problem(response, errors.NotFound if "%2f" in name else errors.UnknownModel)
        assert len(problem["detail"]) < 500
        assert len(problem["instance"]) <= 3 * 256
        json.dumps(problem).encode("ascii")


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", "latest", "%2e%2e", "9" * 5000, "%D9%A1", "1%00"])
async def test_a_version_is_a_number_as_the_catalog_writes_it(served: Served, version: str) -> None:
    problem = assert_problem(
        await served.post(f"tiny/versions/{version}/encode", json={"inputs": ROWS}), errors.UnknownVersion
    )
    assert problem["detail"].endswith("it has 1, 2")
    assert len(problem["detail"]) < 200


async def test_another_method_is_refused_with_those_that_are_allowed(served: Served) -> None:
    for method, path, allowed in (
        ("GET", "/v1/models/tiny/encode", "POST"),
        ("DELETE", "/v1/models/tiny", "GET"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/livez", "GET"),
    ):
        response = await served.client.request(method, path)
        problem = assert_problem(response, errors.MethodNotAllowed)
        assert response.headers["allow"] == allowed
        assert problem["detail"] == f"{method} is not allowed here; allowed: {allowed}"


ACCEPTED: list[str | bytes] = ["a", "abc.DEF_1-2", "x" * 128]
REPLACED: list[str | bytes] = ["", "a b", "a/b", "é".encode(), "x" * 129, 'a"b', "a;b", "a\tb"]


@pytest.mark.parametrize("given", ACCEPTED + REPLACED, ids=lambda given: repr(given)[:20])
async def test_a_request_id_is_kept_if_it_is_well_formed_and_always_returned(
    served: Served, given: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("secret")

    headers: Any = {"X-Request-ID": given}
    responses = [
        await served.get("/v1/models", headers=headers),
        await served.post("tiny/encode", json={"inputs": ROWS}, headers=headers),
        await served.get("/nothing", headers=headers),
        await served.post("tiny/encode", json={}, headers=headers),
        await served.client.delete("/livez", headers=headers),
    ]
    monkeypatch.setattr(Repository, "get", bug)
    responses.append(await served.post("tiny/encode", json={"inputs": ROWS}, headers=headers))
    assert [response.status_code for response in responses] == [200, 200, 404, 422, 405, 500]
    found = [response.headers.get_list("x-request-id") for response in responses]
    assert all(len(ids) == 1 for ids in found)
    if given in ACCEPTED:
        assert found == [[given]] * len(responses)
    else:
        assert len({ids[0] for ids in found}) == len(responses), "each gets one of its own"
        assert all(re.fullmatch(r"[0-9a-f]{32}", ids[0]) for ids in found)
    for response in responses[2:]:
        assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_a_query_that_is_no_utf_8_does_not_break_the_refusal(served: Served) -> None:
    """A raw byte, as a careless client sends it: httpx would encode it."""
    request = served.client.build_request("GET", "/v1/models/nobody")
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": b"x=\xff",
        "headers": request.headers.raw,
        "server": ("diabolo", 80),
        "root_path": "",
    }
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await served.app(scope, receive, send)
    assert sent[0]["status"] == 404
    assert json.loads(sent[1]["body"])["type"] == "/problems/unknown-model"


async def test_an_operation_that_the_bundle_lacks_is_refused_before_anything_else_is_looked_at(served: Served) -> None:
    response = await served.post("tiny/sample", content=b"{", headers={"Accept": "text/html"})
    assert_problem(response, errors.OperationNotSupported)


async def test_codes_too_are_pointed_at_by_their_own_name(served: Served) -> None:
    problem = assert_problem(await post(served, "tiny/decode", latents=[[1, 2], [1]]), errors.InvalidContent)
    assert problem["detail"] == "latents must be an array of rows of 2 numbers"
    assert problem["errors"] == [{"detail": "the array has 1 elements, not 2", "pointer": "#/latents/1"}]
    array = io.BytesIO()
    np.save(array, np.array([[np.nan, 1]]))
    response = await served.post("tiny/decode", content=array.getvalue())
    assert assert_problem(response, errors.InvalidContent)["errors"][0]["pointer"] == "#/latents/0/0"
