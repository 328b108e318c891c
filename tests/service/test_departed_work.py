"""What a client that has gone was waiting for is never run."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from benchmarks.stages import Sink
from service.api.departure import connection_of
from service.connection import Connection
from tests.service.clients import BODY, PATH, Place, client, place_over, request, until
from tests.service.serving import ROWS
from tests.service.sockets import Stream


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


async def test_the_work_of_a_client_that_has_gone_is_dropped_before_its_forward_pass(place: Place) -> None:
    program = place.served.program
    batcher = place.served.repository.get("tiny").batcher
    async with client(place) as first, client(place) as going, client(place) as staying:
        program.hold()
        await first.send(request())
        await program.entered()
        for other in (going, staying):
            await other.send(request())
        await until(lambda: batcher.pending_rows == 3 * len(ROWS))
        going.writer.transport.abort()
        await until(lambda: batcher.pending_rows == 2 * len(ROWS))
        program.release()
        assert (await first.answer())[0] == (await staying.answer())[0] == 200
    assert program.batches == [2, 2]
    assert batcher.tally.dropped == 1


async def test_a_client_that_goes_during_its_forward_pass_or_its_body_leaves_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    program = place.served.program
    batcher = place.served.repository.get("tiny").batcher
    program.hold()
    async with client(place) as going:
        await going.send(request())
        await program.entered()
    async with client(place) as reading:
        await reading.send(PATH + b"Host: diabolo\r\nContent-Length: 1000000\r\n\r\n" + b" " * 500_000)
        await until(lambda: place.served.app.state.bodies.held_bytes > 0)
    await until(lambda: not (place.connections or batcher.pending_rows or place.served.app.state.bodies.held_bytes))
    program.release()
    async with client(place) as next_one:
        await next_one.send(request())
        assert (await next_one.answer())[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_stream_whose_client_has_gone_asks_for_no_more_forward_passes(place: Place) -> None:
    program = place.served.program
    batcher = place.served.repository.get("tiny").batcher
    async with Stream.open(place.port, "tiny/encode") as stream:
        await stream.send(b"[0, 0, 0, 0]\n")
        assert await stream.head() == 200
        await stream.line()
        program.hold()
        await stream.send(b"[1, 0, 0, 0]\n" * 4)
        await program.entered()
        await stream.send(b"[2, 0, 0, 0]\n" * 4)
        await until(lambda: batcher.pending_rows == 8)
        batches = len(program.batches)
    await until(lambda: batcher.pending_rows == 0)
    program.release()
    async with client(place) as other:
        await other.send(request())
        assert (await other.answer())[0] == 200
    assert program.batches[batches:] == [len(ROWS)]


async def test_a_connection_that_has_ended_is_freed_at_once_with_all_that_its_last_request_knew() -> None:
    """Not when the garbage collector comes by: it may hold a bundle that is not served any more."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["known"] = connection_of(scope)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})
        answered.set()

    answered = asyncio.Event()
    config = uvicorn.Config(app, http="httptools", ws="none", log_config=None, lifespan="off")
    connection = Connection(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(Sink())
    connection.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await answered.wait()
    await asyncio.sleep(0)
    assert connection.timeout_keep_alive_task is not None
    connection.timeout_keep_alive_task.cancel()
    gc.disable()
    try:
        connection.connection_lost(ConnectionResetError())
        freed = weakref.ref(connection)
        del connection
        await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()


async def test_the_work_of_a_page_of_another_origin_is_dropped_as_well(models: Path) -> None:
    origin = "https://here.example"
    async with place_over(models, cors_origins=(origin,)) as place:
        program, batcher = place.served.program, place.served.repository.get("tiny").batcher
        async with client(place) as first, client(place) as going:
            program.hold()
            await first.send(request())
            await program.entered()
            await going.send(request(BODY, f"Origin: {origin}"))
            await until(lambda: batcher.pending_rows == 2 * len(ROWS))
            going.writer.transport.abort()
            await until(lambda: batcher.pending_rows == len(ROWS))
            program.release()
            assert (await first.answer())[0] == 200
        assert program.batches == [2]
