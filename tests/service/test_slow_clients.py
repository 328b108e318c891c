"""Clients that are slow, or never end: over real sockets, by a clock that the test moves."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service import errors
from service.connection import MAX_HEAD_BYTES
from tests.service.clients import BODY, PATH, SECONDS, SLOW, Place, begun, client, place_over, request, until
from tests.service.sockets import Stream


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


async def test_a_body_that_does_not_come_in_time_is_408_and_ends_its_connection(place: Place) -> None:
    async with client(place) as slow:
        await slow.send(PATH + SLOW + b"{")
        await begun(place)
        place.later(1)
        place.later(SECONDS - 2)
        await place.rest()
        place.later(2)
        status, fields, problem = await slow.answer()
        assert (status, problem["type"]) == (408, "/problems/request-too-slow")
        assert problem["detail"] == "the body did not come in time: 1 bytes of it in 31 s"
        assert fields["connection"] == "close"
        assert await slow.ended()
    assert place.served.app.state.bodies.too_slow == 1


async def test_a_body_may_take_a_second_more_for_every_16_kib(place: Place) -> None:
    async with client(place) as slow:
        await slow.send(PATH + b"Host: diabolo\r\nContent-Length: 66000\r\n\r\n" + b" " * 32768)
        await begun(place)
        place.later(SECONDS + 1)
        await place.rest()
        await slow.send(b" " * (66000 - 32768 - len(BODY)) + BODY)
        assert (await slow.answer())[0] == 200


async def test_under_v2_the_refusal_is_in_the_form_of_that_protocol(place: Place) -> None:
    for path in (b"models/tiny/infer", b"repository/index"):
        async with client(place) as slow:
            await slow.send(b"POST /v2/" + path + b" HTTP/1.1\r\n" + SLOW)
            await until(lambda: place.connections[0].cycle is not None)
            await place.rest()
            place.later(0)
            await place.rest()
            place.later(SECONDS + 1)
            status, _, answer = await slow.answer()
            assert status == 408
            assert list(answer) == ["error"]


async def test_a_stream_may_take_as_long_as_it_likes(place: Place) -> None:
    async with Stream.open(place.port, "tiny/encode") as stream:
        for index in range(3):
            await stream.send(b"[%d, 0, 0, 0]\n" % index)
            if not index:
                assert await stream.head() == 200
            assert (await stream.line())["latent"] == [index, 0]
            for _ in range(3):
                place.later(3600)
                await place.rest()
        await stream.end()
        assert await stream.lines() == [{"done": True, "rows": 3}]


@pytest.mark.parametrize("drips", [[], [b"X-Slow: "], [b"X: 1\r\n", b"Y: 2\r\n"]])
async def test_a_head_that_does_not_come_in_time_is_408_however_it_drips(place: Place, drips: list[bytes]) -> None:
    async with client(place) as slow:
        await slow.send(PATH + b"Host: diabolo\r\n")
        (connection,) = place.connections
        await until(lambda: connection.scope is not None)
        place.later(0)
        sent = 0
        for drip in drips:
            sent += len(drip)
            await slow.send(drip)
            while connection._head_bytes < sent:
                await asyncio.sleep(0)
            place.later(SECONDS / 3)
        place.later(SECONDS - SECONDS / 3 * len(drips) - 1)
        assert place.connections
        place.later(1)
        status, fields, problem = await slow.answer()
        assert (status, fields["content-type"]) == (408, "application/problem+json")
        assert problem["type"] == f"/problems/{errors.RequestTooSlow.slug}"
        assert await slow.ended()


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"])
async def test_a_connection_that_never_asks_for_anything_is_ended_without_a_word(place: Place, sent: bytes) -> None:
    async with client(place) as silent:
        await silent.send(sent)
        await place.rest()
        place.later(0)
        place.later(SECONDS - 1)
        assert len(place.connections) == 1
        place.later(1)
        assert await silent.ended()


async def test_the_rest_of_a_body_whose_answer_did_not_need_it_is_not_waited_for(place: Place) -> None:
    async with client(place) as slow:
        await slow.send(PATH.replace(b"tiny", b"nobody") + SLOW + b"{")
        assert (await slow.answer())[0] == 404
        await slow.send(b" ")  # which ends uvicorn's own wait for the next request
        await until(lambda: place.connections[0].timeout_keep_alive_task is None)
        place.later(0)
        place.later(SECONDS)
        assert await slow.ended()


async def test_an_idle_connection_is_left_to_its_keep_alive_and_answers_later_requests(place: Place) -> None:
    async with client(place) as patient:
        for _ in range(3):
            await patient.send(request())
            assert (await patient.answer())[0] == 200
            for _ in range(3):
                place.later(SECONDS)
                await place.rest()


async def test_an_answer_that_takes_long_is_no_slow_client(place: Place) -> None:
    place.served.program.hold()
    async with client(place) as patient:
        await patient.send(request())
        await place.served.program.entered()
        for _ in range(3):
            place.later(SECONDS)
            await place.rest()
        place.served.program.release()
        assert (await patient.answer())[0] == 200


@pytest.mark.parametrize("field", [b"X-%d: 1\r\n", b"%d"], ids=["fields without end", "a field without end"])
async def test_a_head_without_end_is_431(place: Place, field: bytes) -> None:
    async with client(place) as endless:
        await endless.send(PATH + b"X: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while endless.reader.at_eof() is False and sent < 100 * MAX_HEAD_BYTES:
                piece = b"".join(field % number for number in range(10_000))
                endless.writer.write(piece)
                sent += len(piece)
                await asyncio.sleep(0)
                if endless.reader._buffer:  # type: ignore[attr-defined]  # it has answered
                    break
        status, _, problem = await endless.answer()
        assert (status, problem["type"]) == (431, "/problems/head-too-large")
        assert sent < 100 * MAX_HEAD_BYTES


async def test_a_next_request_in_the_same_piece_as_a_large_body_is_no_head_without_end(place: Place) -> None:
    large = BODY + b" " * MAX_HEAD_BYTES
    async with client(place) as pipelining:
        # As if the system had handed over all of it at once, as uvloop does with so much.
        place.connections[0].data_received(request(large) + request()[:20])
        assert (await pipelining.answer())[0] == 200
        place.connections[0].data_received(request()[20:30])
        await pipelining.send(request()[30:])
        assert (await pipelining.answer())[0] == 200


async def test_a_client_that_vanishes_without_a_word_is_asked_after_by_the_system(place: Place) -> None:
    async with client(place):
        end = place.connections[0].transport.get_extra_info("socket")
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_at_the_end_a_request_on_its_way_over_an_idle_connection_is_still_answered(place: Place) -> None:
    async with client(place) as idle, client(place) as silent:
        await idle.send(request())
        assert (await idle.answer())[1].get("connection") is None
        for connection in place.connections:
            connection.shutdown()
        await idle.send(request())
        status, fields, _ = await idle.answer()
        assert (status, fields["connection"]) == (200, "close")
        assert await idle.ended()
        assert await silent.ended()


async def test_slow_connections_do_not_keep_out_a_fast_one(place: Place) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(200):
            slow = await stack.enter_async_context(client(place))
            await slow.send([b"", PATH, PATH + SLOW, PATH + SLOW + b"{"][number % 4])
        fast = await stack.enter_async_context(client(place))
        for _ in range(5):
            place.later(1)
            await fast.send(request())
            assert (await fast.answer())[0] == 200
        for _ in range(2):
            place.later(SECONDS)
            await fast.send(request())
            assert (await fast.answer())[0] == 200
        await until(lambda: len(place.connections) <= 1)
