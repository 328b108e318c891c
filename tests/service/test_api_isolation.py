"""What one request does to others: nothing. Bad neighbours, bugs, large bodies, and threads that are all busy."""

import asyncio
import io
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bundle.calibration import Floats
from bundle.operations import Method
from service import errors, operations
from service.api import operations as routes
from service.api.answers import render
from service.api.requests import parse
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, assert_problem, serving

CLIENTS = 32


def row_of(client: int) -> list[float]:
    return [client, client + 0.5, 0, 0]


async def as_one_batch(served: Served, bodies: list[bytes]) -> list[httpx.Response]:
    """The answers to bodies that all wait for `tiny/encode` while another request is in its forward pass."""
    served.program.hold()
    first = asyncio.create_task(served.post("tiny/reconstruct", json={"inputs": ROWS}))
    await served.program.entered()
    tasks = [asyncio.create_task(served.post("tiny/encode", content=body)) for body in bodies]
    batcher = served.repository.get("tiny").batcher
    refused = [index for index, body in enumerate(bodies) if b"poison" in body or b"NaN" in body]
    while batcher.pending_rows < len(ROWS) + len(bodies) - len(refused):
        await asyncio.sleep(0)
    served.program.release()
    responses = await asyncio.gather(*tasks)
    assert (await first).status_code == 200
    return responses


BAD = {
    "malformed": (b'{"inputs": [[NaN, 0, 0, 0]]}', errors.MalformedBody),
    "wrong": (b'{"inputs": [["poison", 0, 0, 0]]}', errors.InvalidContent),
    "overflowing": (b'{"inputs": [[1e38, 0, 0, 0]]}', errors.InvalidContent),
}


class Overflowing(Program):
    """Its results are infinite where a value is huge."""

    def __call__(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What the tiny bundle answers, but infinity for what is beyond 1e30."""
        return tuple(np.where(np.abs(output) > 1e30, np.inf, output) for output in super().__call__(method, rows))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("position", [0, 15, 31])
async def test_one_bad_request_of_32_is_refused_and_31_are_answered(models: Path, bad: str, position: int) -> None:
    content, error = BAD[bad]
    async with serving(models, Overflowing()) as served:
        bodies = [json.dumps({"inputs": [row_of(client)]}).encode() for client in range(CLIENTS)]
        bodies[position] = content
        responses = await as_one_batch(served, bodies)
        assert Counter(response.status_code for response in responses) == {200: CLIENTS - 1, error.status: 1}
        problem = assert_problem(responses[position], error)
        if bad == "overflowing":
            assert served.program.batches == [2, CLIENTS], "it was in the same forward pass as its neighbours"
            assert "the values sent are far beyond tiny/2's range" in problem["detail"]
        for client, response in enumerate(responses):
            if client != position:
                assert response.json()["latents"] == [row_of(client)[:2]]


@pytest.fixture
async def failing(models: Path) -> AsyncIterator[Served]:
    """The app, whose program raises where a row holds 666."""

    def fails(_: Method, rows: Floats) -> None:
        if (rows == 666).any():
            raise RuntimeError("secret")

    async with serving(models, Program(fails)) as served:
        yield served


async def test_a_program_that_raises_is_a_500_and_the_next_request_is_answered(
    failing: Served, caplog: pytest.LogCaptureFixture
) -> None:
    response = await failing.post("tiny/encode", json={"inputs": [[666, 0, 0, 0]]})
    problem = assert_problem(response, errors.InternalError)
    assert "secret" not in response.text
    assert problem["detail"] == "the forward pass failed"
    assert "secret" in caplog.text
    assert (await failing.post("tiny/encode", json={"inputs": ROWS})).status_code == 200
    assert (await failing.get("/readyz")).status_code == 200


async def test_a_bug_is_a_500_without_its_text_and_the_log_has_it_under_the_same_id(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(*_: object, **__: object) -> operations.Codes:
        raise ZeroDivisionError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(operations, "encode", bug)
        response = await served.post("tiny/encode", json={"inputs": ROWS})
    problem = assert_problem(response, errors.InternalError)
    assert "secret" not in response.text
    assert problem["detail"] == "the service failed; its log has the cause under this request_id"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert problem["request_id"] in record.getMessage()
    assert "ZeroDivisionError: secret" in caplog.text
    assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200


async def test_health_and_the_catalog_answer_while_the_thread_of_every_bundle_is_blocked(models: Path) -> None:
    async with serving(models) as served:
        served.program.hold()
        blocked = [
            asyncio.create_task(served.post(f"{name}/reconstruct", json={"inputs": ROWS}))
            for name in ("tiny", "vae", "denoiser", "raw")
        ]
        while len(served.program.batches) < len(blocked):
            await asyncio.sleep(0.001)
        for path in ("/livez", "/readyz", "/v1/models", "/v1/models/tiny", "/v1/models/tiny/examples/0", "/docs"):
            assert (await served.get(path)).status_code == 200, path
        assert not any(task.done() for task in blocked)
        served.program.release()
        assert {(await task).status_code for task in blocked} == {200}


LIMIT = 100_000


@pytest.fixture(scope="module")
async def limited(models: Path) -> AsyncIterator[Served]:
    async with serving(models, max_body_bytes=LIMIT) as app:
        yield app


async def in_single_bytes(served: Served, body: bytes, *, headers: dict[str, str] | None = None) -> tuple[Any, int]:
    """The problem document or answer to a body that comes byte by byte, and how many of its bytes were taken."""
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/models/tiny/encode",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "root_path": "",
    }
    taken = 0
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": body[taken - 1 : taken], "more_body": taken < len(body)}

    async def send(message: Any) -> None:
        sent.append(message)

    await served.app(scope, receive, send)
    answer = json.loads(b"".join(message["body"] for message in sent[1:]))
    return {"status": sent[0]["status"], **answer}, taken


def padded(size: int) -> bytes:
    body = b'{"inputs": [[0, 0.25, 0.5, 1]]}'
    return body + b" " * (size - len(body))


async def test_a_hundred_thousand_chunks_of_one_byte_are_one_body(limited: Served) -> None:
    answer, taken = await in_single_bytes(limited, padded(LIMIT))
    assert answer["latents"] == [[0, 0.25]]
    assert taken == LIMIT


async def test_past_the_limit_not_one_chunk_more_is_taken(limited: Served) -> None:
    answer, taken = await in_single_bytes(limited, padded(10 * LIMIT))
    assert (answer["type"], answer["status"]) == ("/problems/body-too-large", 413)
    assert answer["detail"] == "the body has more than the 100000 bytes that are read"
    assert taken == LIMIT + 1


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 18, "9" * 19, "9" * 5000], ids=len)
async def test_a_length_past_the_limit_is_refused_before_a_byte_is_read(limited: Served, length: str) -> None:
    answer, taken = await in_single_bytes(limited, padded(200), headers={"Content-Length": length})
    assert (answer["type"], answer["status"], taken) == ("/problems/body-too-large", 413, 0)


@pytest.mark.parametrize("length", ["", "-1", "x", "1e9", "²", "1"])
async def test_a_length_that_is_nonsense_or_a_lie_does_not_lift_the_limit(limited: Served, length: str) -> None:
    answer, _ = await in_single_bytes(limited, padded(2 * LIMIT), headers={"Content-Length": length})
    assert answer["status"] == 413
    answer, _ = await in_single_bytes(limited, padded(200), headers={"Content-Length": length})
    assert answer["latents"] == [[0, 0.25]]


async def test_a_body_of_exactly_the_limit_is_read(limited: Served) -> None:
    response = await limited.post("tiny/encode", content=padded(LIMIT))
    assert response.status_code == 200
    assert_problem(await limited.post("tiny/encode", content=padded(LIMIT + 1)), errors.BodyTooLarge)


@pytest.mark.parametrize(
    ("path", "field", "fields"),
    [("vae/sample", "count", {"seed": 1}), ("tiny/interpolate", "steps", {"start": ROWS[0], "end": ROWS[1]})],
)
async def test_as_many_rows_are_made_as_allowed_and_no_more(
    models: Path, path: str, field: str, fields: dict[str, object]
) -> None:
    async with serving(models, max_rows=5) as served:
        response = await served.post(path, json={**fields, field: 5})
        assert len(response.json()["outputs"]) == 5
        problem = assert_problem(await served.post(path, json={**fields, field: 6}), errors.TooManyRows)
        assert problem["detail"] == f"{field} is 6, at most 5 rows are answered at a time"


async def test_large_bodies_and_answers_go_through_a_thread_and_come_out_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[dict[str, Any]] = [{"inputs": ROWS}, {"inputs": [["x", 0, 0, 0]]}]
    here = [(await served.post("tiny/reconstruct", json=body)).json() for body in bodies]
    threads: list[str] = []

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: Any, **named: Any) -> object:
            threads.append(threading.current_thread().name)
            return function(*arguments, **named)

        return noted

    monkeypatch.setattr(routes, "LARGE_BODY_BYTES", 0)
    monkeypatch.setattr(routes, "LARGE_ANSWER_NUMBERS", 0)
    monkeypatch.setattr(routes, "parse", noting(parse))
    monkeypatch.setattr(routes, "render", noting(render))
    there = [(await served.post("tiny/reconstruct", json=body)).json() for body in bodies]
    assert threads == ["reader_0", "writer_0", "reader_0"], "two bodies, one answer"
    for one, other in zip(here, there, strict=True):
        assert one.pop("request_id") != other.pop("request_id")
        assert one == other


@pytest.mark.parametrize(("read", "drawn"), [(3, 4), (4, 3), (3, 3), (4, 4)])
async def test_pictures_are_large_by_what_they_hold_and_then_go_through_a_thread(
    served: Served, monkeypatch: pytest.MonkeyPatch, read: int, drawn: int
) -> None:
    """The tiny bundle's pictures have four pixels, of which a file of any size tells nothing."""
    buffer = io.BytesIO()
    Image.new("L", (2, 2), 128).save(buffer, format="PNG")
    fields = {"Content-Type": "image/png", "Accept": "image/png"}
    here = await served.post("tiny/reconstruct", content=buffer.getvalue(), headers=fields)
    threads: list[object] = []

    async def counted(function: Callable[..., object], /, *arguments: object) -> object:
        threads.append(function)
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

    monkeypatch.setattr(routes, "LARGE_READ_PIXELS", read)
    monkeypatch.setattr(routes, "LARGE_DRAWN_PIXELS", drawn + 1)  # an error of the row is answered with its pixels
    monkeypatch.setattr(asyncio, "to_thread", counted)
    there = await served.post("tiny/reconstruct", content=buffer.getvalue(), headers=fields)
    assert len(threads) == (read < 4) + (drawn < 4)
    assert (there.status_code, there.content) == (200, here.content)


async def test_a_client_that_goes_away_while_it_sends_is_forgotten(served: Served) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        return

    path = "/v1/models/tiny/encode"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await served.app(scope, receive, send)
    assert served.repository.get("tiny").batcher.pending_rows == 0
    assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200
