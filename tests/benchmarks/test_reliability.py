"""The reliability benchmark: it counts every request for what it was, and waits for nobody."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.reliability.client import Client
from benchmarks.reliability.load import by_the_clock, saturating, steady
from benchmarks.reliability.question import Expected, Question
from benchmarks.reliability.tally import Tally, Verdict

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
RIGHT = {"version": 2, "outputs": [[0.5, 0.25]]}
PROBLEM = {"title": "Overloaded"}

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def read(body: bytes, _: Mapping[str, str]) -> tuple[int, Mapping[str, np.ndarray]]:
    """As the service's JSON."""
    document = orjson.loads(body)
    return document["version"], {"outputs": np.asarray(document["outputs"], np.float32)}


def question() -> Question:
    expected = {
        1: {"outputs": np.array([[1.0, 2.0]], np.float32)},
        2: {"outputs": np.array([[0.5, 0.25]], np.float32)},
    }
    return Question.post("/", b"{}", read=read, expected=expected, fields={})


@asynccontextmanager
async def answering(handle: Handler) -> AsyncIterator[int]:
    """The port of a server that does this with every connection."""
    handling = set()

    async def handle_wholly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.current_task())
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(handle_wholly, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*filter(None, handling))


def keep_answering(document: dict[str, Any]) -> Handler:
    """The same answer to every request of a connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(document).encode()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"{}"):
                writer.write(OK % (len(body), body))

    return handle


async def ask(handle: Handler, *, times: int = 1, **settings: int) -> tuple[Tally, Client]:
    """What becomes of so many questions, one after the other."""
    async with answering(handle) as port:
        client = Client(port, Tally(), **settings)
        for _ in range(times):
            client.ask(question(), time.monotonic())
            await client.quiet()
        await client.close()
    return client.tally, client


class TestJudging:
    def test_the_version_that_answered_decides_what_is_right(self) -> None:
        one = {"version": 1, "outputs": [[1.0, 2.0]]}
        for document in (RIGHT, one):
            assert question().judge(200, {}, json.dumps(document).encode()) == (Verdict.OK, "")

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            ({"version": 2, "outputs": [[0.5, 0.26]]}, "does not answer these"),
            ({"version": 1, "outputs": [[0.5, 0.25]]}, "does not answer these"),  # the other version's
            ({"version": 3, "outputs": [[0.5, 0.25]]}, "which there is not"),
            ({"version": 2, "outputs": [[0.5]]}, "of shape"),
            ({"version": 2, "outputs": [[0.5, None]]}, "does not answer these"),
            ({"version": 2}, "cannot be read"),
            ([], "cannot be read"),
        ],
    )
    def test_what_is_not_the_direct_answer_is_wrong(self, document: Any, reason: str) -> None:
        verdict, said = question().judge(200, {}, json.dumps(document).encode())
        assert verdict is Verdict.WRONG
        assert reason in said

    def test_a_right_answer_is_remembered_and_a_wrong_one_is_not(self) -> None:
        asked, right = question(), json.dumps(RIGHT).encode()
        wrong = right.replace(b"0.25", b"0.75")
        assert [asked.judge(200, {}, body)[0] for body in (right, wrong, right, wrong)] == [
            Verdict.OK,
            Verdict.WRONG,
        ] * 2

    def test_a_version_that_was_gone_before_the_question_was_asked_is_wrong_even_where_its_answer_is_known(
        self,
    ) -> None:
        asked, old = question(), json.dumps({"version": 1, "outputs": [[1.0, 2.0]]}).encode()
        assert asked.judge(200, {}, old, lowest=1)[0] is Verdict.OK
        verdict, said = asked.judge(200, {}, old, lowest=2)
        assert verdict is Verdict.WRONG
        assert "gone before it was asked" in said
        assert asked.judge(200, {}, json.dumps(RIGHT).encode(), lowest=2)[0] is Verdict.OK

    def test_what_follows_from_the_answer_s_own_arrays_must_follow_exactly(self) -> None:
        def read_both(body: bytes, _: Mapping[str, str]) -> tuple[int, Mapping[str, np.ndarray]]:
            outputs, doubled = orjson.loads(body)
            return 1, {"outputs": np.asarray(outputs, np.float32), "doubled": np.asarray(doubled)}

        expected: Mapping[int, Expected] = {
            1: {"outputs": np.array([1.0], np.float32), "doubled": lambda arrays: 2 * arrays["outputs"].astype(float)}
        }
        asked = Question.post("/", b"{}", read=read_both, expected=expected, fields={})
        assert asked.judge(200, {}, b"[[1.0], [2.0]]")[0] is Verdict.OK
        own = float(np.float32(1.00001))  # within the tolerance, and so is what follows from it
        assert asked.judge(200, {}, json.dumps([[own], [2 * own]]).encode())[0] is Verdict.OK
        verdict, said = asked.judge(200, {}, json.dumps([[own], [2.0]]).encode())
        assert (verdict, said) == (Verdict.WRONG, "/: version 1 does not answer these doubled")

    @pytest.mark.parametrize(
        ("status", "fields", "body", "verdict"),
        [
            (503, {"retry-after": "1"}, PROBLEM, Verdict.REFUSED),
            (429, {"retry-after": "7"}, {"error": "too many"}, Verdict.REFUSED),
            (504, {}, {"title": "Deadline exceeded"}, Verdict.LATE),
            (504, {}, {}, Verdict.WRONG),
            (503, {}, PROBLEM, Verdict.WRONG),
            (503, {"retry-after": "0"}, PROBLEM, Verdict.WRONG),
            (503, {"retry-after": "0.5"}, PROBLEM, Verdict.WRONG),
            (503, {"retry-after": "1"}, {}, Verdict.WRONG),
            (503, {"retry-after": "1"}, "overloaded", Verdict.WRONG),
            (500, {"retry-after": "1"}, PROBLEM, Verdict.WRONG),
            (404, {}, PROBLEM, Verdict.WRONG),
        ],
    )
    def test_a_refusal_is_honest_or_wrong(
        self, status: int, fields: dict[str, str], body: Any, verdict: Verdict
    ) -> None:
        assert question().judge(status, fields, json.dumps(body).encode())[0] is verdict


class TestClient:
    async def test_right_answers_over_one_kept_connection(self) -> None:
        found, client = await ask(keep_answering(RIGHT), times=3)
        assert (len(found), found.count(Verdict.OK), client.opened) == (3, 3, 1)

    async def test_some_requests_have_a_connection_of_their_own(self) -> None:
        found, client = await ask(keep_answering(RIGHT), times=4, fresh_every=2)
        assert (found.count(Verdict.OK), client.opened) == (4, 3)

    async def test_a_wrong_answer_is_wrong(self) -> None:
        found, _ = await ask(keep_answering({"version": 2, "outputs": [[0.5, 0.5]]}))
        assert found.count(Verdict.WRONG) == 1

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"], ids=["nothing", "half"])
    async def test_a_connection_that_breaks_loses_its_request(self, sent: bytes) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"{}")
            writer.write(sent)

        found, client = await ask(handle)
        assert (found.count(Verdict.LOST), client.surprises) == (1, 1)

    async def test_nobody_listening_is_a_lost_request(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        client = Client(port, Tally())
        client.ask(question(), time.monotonic())
        await client.quiet()
        await client.close()
        assert client.tally.count(Verdict.LOST) == 1

    async def test_what_is_foreseen_is_lost_but_no_surprise(self) -> None:
        async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"{}")
            for connection in client.busy:
                connection.doomed = True

        async with answering(handle) as port:
            client = Client(port, Tally())
            client.ask(question(), time.monotonic())
            await client.quiet()
            await client.close()
        assert (client.tally.count(Verdict.LOST), client.surprises) == (1, 0)

    async def test_a_connection_that_has_been_closed_is_not_used_again(self) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            body = json.dumps(RIGHT).encode()
            await reader.readuntil(b"{}")
            writer.write(OK % (len(body), body))

        found, client = await ask(handle, times=3)
        assert (found.count(Verdict.OK), found.count(Verdict.LOST)) == (3, 0)
        assert client.opened == 3

    async def test_an_answer_counts_from_when_the_question_was_due(self) -> None:
        async with answering(keep_answering(RIGHT)) as port:
            client = Client(port, Tally())
            client.ask(question(), time.monotonic() - 5)
            await client.quiet()
            await client.close()
        assert client.tally.percentile_ms(100) >= 4999  # a tick of the clock is forgiven


async def test_load_by_the_clock_waits_for_no_answer() -> None:
    silent = asyncio.Event()

    async def handle(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await silent.wait()

    async with answering(handle) as port:
        client = Client(port, Tally())
        await by_the_clock(client, repeat(question()), rate=1000, seconds=0.1, seed=1)
        under_way = len(client.busy)
        silent.set()
        await client.quiet()
        await client.close()
    assert 60 < under_way < 140  # all of about a hundred, though none was answered
    assert client.tally.count(Verdict.LOST) == under_way


async def test_the_lowest_version_counts_that_was_left_when_the_question_was_sent() -> None:
    """An answer that was under way while the version went is right; one that was asked for afterwards is wrong."""
    asked = question()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"version": 1, "outputs": [[1.0, 2.0]]}).encode()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"{}"):
                asked.lowest = 2
                writer.write(OK % (len(body), body))

    async with answering(handle) as port:
        client = Client(port, Tally())
        for _ in range(2):
            client.ask(asked, time.monotonic())
            await client.quiet()
        await client.close()
    assert (client.tally.count(Verdict.OK), client.tally.count(Verdict.WRONG)) == (1, 1)


async def test_steady_load_lasts_as_long_as_its_block_and_tells_what_has_ended_it() -> None:
    async with answering(keep_answering(RIGHT)) as port:
        client = Client(port, Tally())
        async with steady(client, repeat(question()), rate=1000):
            await asyncio.sleep(0.05)
        await client.quiet()
        asked = len(client.tally)
        assert asked > 10
        await asyncio.sleep(0.02)
        assert len(client.tally) == asked
        with pytest.raises(RuntimeError):  # of a generator that ends
            async with steady(client, iter([question()]), rate=1000):
                await asyncio.sleep(0.05)
        await client.quiet()
        await client.close()


async def test_saturating_keeps_so_many_under_way() -> None:
    most = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, len(client.busy))
        await keep_answering(RIGHT)(reader, writer)

    async with answering(handle) as port:
        client = Client(port, Tally())
        await saturating(client, repeat(question()), at_once=4, seconds=0.05)
        await client.close()
    assert most == 4
    assert client.tally.count(Verdict.OK) == len(client.tally) >= 4
