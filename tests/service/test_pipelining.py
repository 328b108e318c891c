"""Requests sent before the one in front of them is answered: each is answered in its turn, or none is begun."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.connection import MOST_WAITING
from tests.service.clients import BODY, PATH, Place, client, place_over, request, until


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


CHUNKED = PATH + b"Host: diabolo\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("nonsense", [b"nonsense\r\n\r\n", PATH + b"nonsense\r\n\r\n", CHUNKED + b"nonsense\r\n"])
async def test_what_came_whole_is_answered_though_nonsense_follows_it(place: Place, nonsense: bytes) -> None:
    async with client(place) as sender:
        await sender.send(request() + request() + nonsense + request())
        for _ in range(2):
            status, _, answer = await sender.answer()
            assert (status, len(answer["latents"])) == (200, 2)
        assert await sender.ended()


async def test_nonsense_does_not_cut_an_answer_that_has_begun(place: Place) -> None:
    async with client(place) as sender:
        place.served.program.hold()
        await sender.send(request())
        await place.served.program.entered()
        await sender.send(b"\0\0\r\n")
        await place.rest()
        place.served.program.release()
        assert (await sender.answer())[0] == 200
        assert await sender.ended()


async def test_a_client_that_leaves_several_requests_leaves_no_error(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(place) as sender:
        place.served.program.hold()
        await sender.send(request() * 3)
        await place.served.program.entered()
    await until(lambda: not place.connections)
    await until(lambda: not place.server.server_state.tasks)
    place.served.program.release()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_of_more_than_may_wait_those_in_front_are_answered_and_the_connection_ends(place: Place) -> None:
    async with client(place) as eager:
        await eager.send(request() + b"GET /livez HTTP/1.1\r\n\r\n" * 4000)
        for _ in range(1 + MOST_WAITING):
            assert (await eager.answer())[0] == 200
        assert await eager.ended()


async def test_as_many_as_may_wait_are_answered_and_more_can_follow(place: Place) -> None:
    async with client(place) as eager:
        for _ in range(2):
            await eager.send(request() * MOST_WAITING)
            for _ in range(MOST_WAITING):
                assert (await eager.answer())[0] == 200


async def test_what_waits_is_bounded_however_long_the_one_in_front_takes(place: Place) -> None:
    place.served.program.hold()
    async with client(place) as eager:
        sending = asyncio.create_task(eager.send(request(BODY + b" " * 30_000) * 1000))
        await place.served.program.entered()
        (connection,) = place.connections
        for _ in range(2000):
            await asyncio.sleep(0)
            connection.attend(0, seconds=1)
            assert len(connection.pipeline) <= MOST_WAITING
        place.served.program.release()
        for _ in range(8):
            assert (await eager.answer())[0] == 200
        sending.cancel()
