"""Who gets a connection, and who has it until it is taken."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.balancer import LOADING_SECONDS, Balancer
from service.channel import CONNECTION, DRAIN, READY, Report, open_channel
from service.listening import listen
from service.settings import Settings
from service.supervisor import Supervisor
from service.worker_process import WorkerProcess

NO_PROCESS: Any = None


class Pair(NamedTuple):
    """A worker as the supervisor sees it, and its own end of the channel."""

    worker: WorkerProcess
    end: socket.socket

    def says(
        self, *, taken: int = 0, closed: int = 0, scanned: bool = True, complete: bool = True, leaving: bool = False
    ) -> None:
        """The report is on its way."""
        self.end.send(Report(taken, closed, scanned, complete, leaving).packed())

    def gets(self) -> bytes | None:
        """The next message; nothing when there is none. A connection that comes with it is let go of."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.end, 100, 1)
        except BlockingIOError:
            return None
        for descriptor in descriptors:
            socket.socket(fileno=descriptor).close()
        return message


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Three workers that have not said anything yet."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(3):
            ours, theirs = map(stack.enter_context, open_channel())
            theirs.setblocking(False)
            made.append(Pair(WorkerProcess(NO_PROCESS, ours), theirs))
        yield made
        for pair in made:
            for connection in pair.worker.untaken:
                connection.close()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    """Connections without anybody at the other end."""
    with contextlib.ExitStack() as stack:
        ends = [socket.socketpair() for _ in range(12)]
        for _, far in ends:
            stack.enter_context(far)
        near = [connection for connection, _ in ends]
        yield near
        for connection in near:
            connection.close()


def spread(pairs: list[Pair], clients: list[socket.socket], *, only_complete: bool = True) -> list[int]:
    """How many of the connections each worker is sent, after all have been heard just now."""

    async def hand_over() -> None:
        now = asyncio.get_running_loop().time()
        for pair in pairs:
            pair.worker.receive(now)
        balancer = Balancer([], [pair.worker for pair in pairs])
        balancer.only_complete = only_complete
        assert all(balancer.hand_over(client) for client in clients)

    asyncio.run(hand_over())
    return [sum(iter(lambda pair=pair: pair.gets() == CONNECTION, False)) for pair in pairs]  # type: ignore[misc]


def test_each_gets_as_many_as_the_others(pairs: list[Pair], clients: list[socket.socket]) -> None:
    for pair in pairs:
        pair.says()
    assert spread(pairs, clients) == [4, 4, 4]


def test_who_has_fewest_catches_up(pairs: list[Pair], clients: list[socket.socket]) -> None:
    for pair in pairs:
        pair.says()
    spread(pairs, clients[:9])
    pairs[1].says(taken=3, closed=2)
    assert spread(pairs, clients[9:11]) == [0, 2, 0]


def test_who_cannot_answer_yet_is_left_out_once_the_start_is_over(
    pairs: list[Pair], clients: list[socket.socket]
) -> None:
    for pair, complete in zip(pairs, (True, False, True), strict=True):
        pair.says(scanned=complete, complete=complete)
    assert spread(pairs, clients[:6]) == [3, 0, 3]
    assert spread(pairs, clients[6:], only_complete=False) == [1, 4, 1]


@pytest.mark.parametrize("proven", [True, False], ids=["could before", "has loaded for long"])
def test_who_cannot_answer_is_better_than_nobody(pairs: list[Pair], clients: list[socket.socket], proven: bool) -> None:
    pairs[2].says(scanned=proven, complete=proven)
    pairs[2].worker.receive(time.monotonic() - LOADING_SECONDS)
    pairs[2].says(scanned=proven, complete=False)
    assert spread(pairs, clients) == [0, 0, 12]


@pytest.mark.parametrize("complete", [True, False], ids=["every bundle", "what was not refused"])
async def test_who_takes_the_place_of_another_gets_nothing_before_it_has_loaded(
    pairs: list[Pair], clients: list[socket.socket], complete: bool
) -> None:
    balancer = Balancer([], [pairs[0].worker])
    balancer.only_complete = True
    now = asyncio.get_running_loop().time()
    pairs[0].says(scanned=False, complete=False)
    pairs[0].worker.receive(now)
    assert not balancer.hand_over(clients[0])
    assert pairs[0].gets() is None

    pairs[0].says(complete=complete)
    pairs[0].worker.receive(now)
    balancer.open()
    assert pairs[0].gets() == CONNECTION


def test_who_is_leaving_is_left_out(pairs: list[Pair], clients: list[socket.socket]) -> None:
    for pair, leaving in zip(pairs, (True, False, False), strict=True):
        pair.says(leaving=leaving)
    assert spread(pairs, clients) == [0, 6, 6]


def test_who_is_silent_is_left_out(pairs: list[Pair], clients: list[socket.socket]) -> None:
    pairs[0].says()
    pairs[0].worker.receive(-1e6)  # long ago
    for pair in pairs[1:]:
        pair.says()
    assert spread(pairs, clients) == [0, 6, 6]


def test_who_is_dead_is_left_out(pairs: list[Pair], clients: list[socket.socket]) -> None:
    for pair in pairs:
        pair.says()
    pairs[0].worker.receive(0)
    pairs[0].end.close()
    assert spread(pairs[1:], clients[:2]) == [1, 1]
    assert not pairs[0].worker.offer(clients[2])


def test_a_connection_that_nobody_can_take_waits(pairs: list[Pair], clients: list[socket.socket]) -> None:
    async def wait() -> None:
        balancer = Balancer([], workers := [pairs[0].worker])
        assert not balancer.hand_over(clients[0])
        pairs[0].says()
        workers[0].receive(0)
        balancer.open()

    asyncio.run(wait())
    assert pairs[0].gets() == CONNECTION
    assert pairs[0].gets() is None


def test_a_connection_is_kept_until_its_worker_has_taken_it(pairs: list[Pair], clients: list[socket.socket]) -> None:
    pair = pairs[0]
    assert pair.worker.offer(clients[0])
    assert pair.worker.offer(clients[1])
    pair.says(taken=0)
    pair.worker.receive(0)
    assert list(pair.worker.untaken) == clients[:2]
    pair.says(taken=1)
    pair.worker.receive(0)
    assert list(pair.worker.untaken) == clients[1:2]
    assert clients[0].fileno() == -1


@pytest.mark.parametrize("message", [READY, DRAIN])
def test_what_a_full_queue_does_not_take_is_told_once_there_is_room(
    pairs: list[Pair], clients: list[socket.socket], message: bytes
) -> None:
    pair = pairs[0]
    while pair.worker.offer(clients[0]):
        pass
    pair.worker.tell(message)
    taken = sum(iter(lambda: pair.gets() == CONNECTION, False))
    assert taken == pair.worker.sent
    pair.says(taken=taken)
    pair.worker.receive(0)
    assert pair.gets() == message
    pair.worker.receive(0)
    assert pair.gets() is None


def test_workers_become_ready_together(pairs: list[Pair], tmp_path: Path) -> None:
    async def start() -> None:
        supervisor = Supervisor(Settings(models_dir=tmp_path), listen("127.0.0.1", 0), workers=2, command=[])
        supervisor._workers.extend(pair.worker for pair in pairs[:2])
        first, last = pairs[:2]
        first.says(complete=True)
        last.says(scanned=False, complete=False)
        supervisor._hear(first.worker)
        supervisor._hear(last.worker)
        assert first.gets() is last.gets() is None
        last.says(complete=True)
        supervisor._hear(last.worker)
        assert first.gets() == last.gets() == READY
        supervisor._balancer.close()

    asyncio.run(start())
