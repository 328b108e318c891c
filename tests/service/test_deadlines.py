"""Until when an answer is wanted: said by the request or the settings, told at once, and nothing is run after it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import errors
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, assert_problem, serving
from tests.service.sockets import Stream, listening

BODY = {"inputs": ROWS}
SOON = {"Request-Timeout-Ms": "1"}
LATE = {"Request-Timeout-Ms": "600000"}
V2_BODY = {"inputs": [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}]}


@pytest.fixture
async def served(models: Path) -> AsyncIterator[Served]:
    """The app with a program of its own, which tests hold up."""
    async with serving(models, Program(), max_batch_rows=4) as app:
        yield app


async def blocked(served: Served) -> "asyncio.Task[httpx.Response]":
    """A request that is in its forward pass until `release`."""
    served.program.hold()
    first = asyncio.create_task(served.post("tiny/encode", json=BODY))
    await served.program.entered()
    return first


async def test_at_its_deadline_a_request_hears_so_and_its_work_is_never_begun(served: Served) -> None:
    first = await blocked(served)
    batcher = served.repository.get("tiny").batcher
    late = await served.post("tiny/encode", json=BODY, headers=SOON)
    problem = assert_problem(late, errors.DeadlineExceeded)
    assert problem["detail"] == "the answer was not there within 1 ms"
    assert batcher.pending_rows == len(ROWS), "its rows are nobody's any more"
    patient = asyncio.create_task(served.post("tiny/encode", json=BODY, headers=LATE))
    while batcher.pending_rows == len(ROWS):
        await asyncio.sleep(0)
    served.program.release()
    assert (await first).status_code == (await patient).status_code == 200
    assert served.program.batches == [2, 2]


async def test_a_request_in_its_forward_pass_hears_so_at_once_and_its_neighbour_has_its_answer(
    served: Served,
) -> None:
    first = await blocked(served)
    batcher = served.repository.get("tiny").batcher
    both = [
        asyncio.create_task(served.post("tiny/encode", json=BODY, headers=headers))
        for headers in ({"Request-Timeout-Ms": "60000"}, LATE)
    ]
    while batcher.pending_rows < 3 * len(ROWS):
        await asyncio.sleep(0)
    served.program.release()
    served.program.hold()
    await first
    await served.program.entered()
    late = await served.post("tiny/encode", json=BODY, headers=SOON)
    assert late.status_code == 504
    both[0].cancel()
    served.program.release()
    assert (await both[1]).json()["latents"] == [[0, 0.25], [1, 0.5]]
    assert served.program.batches == [2, 4]


async def test_a_deadline_during_the_forward_pass_does_not_wait_for_it(served: Served) -> None:
    served.program.hold()
    late = await served.post("tiny/encode", json=BODY, headers={"Request-Timeout-Ms": "50"})
    assert_problem(late, errors.DeadlineExceeded)
    served.program.release()
    assert (await served.post("tiny/encode", json=BODY)).status_code == 200


async def test_the_second_pass_of_an_operation_is_under_the_same_deadline(served: Served) -> None:
    served.program.hold()
    asked = served.post("tiny/anomaly-score", json={**BODY, "maps": True}, headers={"Request-Timeout-Ms": "500"})
    assert (await asked).status_code == 504
    served.program.release()
    await served.post("tiny/encode", json=BODY)
    assert served.program.batches == [2, 2], "the first pass of one, the only one of the other"


async def test_the_settings_say_it_for_requests_that_do_not(models: Path) -> None:
    async with serving(models, Program(), request_timeout_ms=50) as served:
        first = await blocked(served)
        assert (await served.post("tiny/encode", json=BODY)).status_code == 504
        assert (await first).status_code == 504
        patient = asyncio.create_task(served.post("tiny/encode", json=BODY, headers=LATE))
        while served.repository.get("tiny").batcher.pending_rows == 0:
            await asyncio.sleep(0)
        served.program.release()
        assert (await patient).status_code == 200


async def test_under_v2_the_refusal_is_in_the_form_of_that_protocol(served: Served) -> None:
    served.program.hold()
    late = await served.client.post("/v2/models/tiny/infer", json=V2_BODY, headers=SOON)
    assert (late.status_code, late.json()) == (504, {"error": "the answer was not there within 1 ms"})
    served.program.release()


@pytest.mark.parametrize("value", ["", "0", "-1", "+5", "1.5", "1e3", "soon", "10ms", "1, 2", "٣", "1" * 11, " "])
@pytest.mark.parametrize("path", ["/v1/models/tiny/encode", "/v2/models/tiny/infer"])
async def test_what_is_no_number_of_milliseconds_is_named(served: Served, path: str, value: str) -> None:
    headers = {b"Request-Timeout-Ms": value.encode()}
    refused = await served.client.post(path, json=V2_BODY if "v2" in path else BODY, headers=headers)
    detail = "Request-Timeout-Ms must be a whole number of milliseconds from 1 on, such as 250"
    if "v2" in path:
        assert (refused.status_code, refused.json()) == (400, {"error": detail})
    else:
        assert assert_problem(refused, errors.MalformedField)["detail"] == detail
    assert served.program.batches == []


async def test_behind_a_prefix_it_holds_as_well(served: Served) -> None:
    transport = httpx.ASGITransport(served.app, root_path="/prefix")
    served.program.hold()
    async with httpx.AsyncClient(transport=transport, base_url="http://diabolo/prefix") as client:
        late = await client.post("/v1/models/tiny/encode", json=BODY, headers=SOON)
    assert late.status_code == 504, late.text
    served.program.release()


async def test_the_next_request_of_a_connection_has_time_of_its_own(served: Served) -> None:
    """Pipelined: the second begins where the first ends."""
    content = json.dumps(BODY)
    head = "POST /v1/models/tiny/encode HTTP/1.1\r\nHost: diabolo\r\nContent-Length: {}\r\n{}\r\n"
    two = [head.format(len(content), field) + content for field in ("Request-Timeout-Ms: 1\r\n", "")]
    async with listening(served.app) as port:
        first = await blocked(served)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("".join(two).encode())
        assert b" 504 " in await reader.readline()
        while served.repository.get("tiny").batcher.pending_rows < 2 * len(ROWS):
            await asyncio.sleep(0)
        served.program.release()
        await first
        answers = await reader.readuntil(b'"latents"')
        assert b" 200 OK" in answers
        writer.transport.abort()


async def test_the_time_of_a_stream_is_for_all_of_it_and_its_last_line_says_so(served: Served) -> None:
    async with (
        listening(served.app) as port,
        Stream.open(port, "tiny/encode", Request_Timeout_Ms="500") as stream,
    ):
        await stream.send(b"[0, 0, 0, 0]\n")
        assert await stream.head() == 200
        assert (await stream.line())["index"] == 0
        (last,) = await stream.lines()
        assert set(last) == {"problem"}
        assert last["problem"]["type"] == f"/problems/{errors.DeadlineExceeded.slug}"


async def test_a_stream_whose_lines_wait_for_their_pass_ends_in_time_too(served: Served) -> None:
    async with (
        listening(served.app) as port,
        Stream.open(port, "tiny/encode", Request_Timeout_Ms="500") as stream,
    ):
        await stream.send(b"[0, 0, 0, 0]\n")
        assert await stream.head() == 200
        assert (await stream.line())["index"] == 0
        served.program.hold()
        await stream.send(b"[1, 0, 0, 0]\n")
        await served.program.entered()
        (last,) = await stream.lines()
        assert last["problem"]["status"] == 504
        assert served.repository.get("tiny").batcher.pending_rows == 0
        served.program.release()


async def test_a_stream_that_gives_itself_no_time_has_no_end_by_the_settings(models: Path) -> None:
    lines: list[Any] = []
    async with (
        serving(models, Program(), request_timeout_ms=1000) as served,
        listening(served.app) as port,
        Stream.open(port, "tiny/encode") as stream,
    ):
        await stream.send(b"[0, 0, 0, 0]\n")
        assert await stream.head() == 200
        lines.append(await stream.line())
        served.program.hold()
        late = await served.post("tiny/encode", json=BODY)
        assert late.status_code == 504, "so a second has passed"
        served.program.release()
        await stream.send(b"[1, 0, 0, 0]\n")
        lines.append(await stream.line())
        await stream.end()
        lines += await stream.lines()
    assert [line.get("index", "done") for line in lines] == [0, 1, "done"]
