"""Ten thousand connections that say nothing, and how fast others are served beside them."""

import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import uvloop

from benchmarks.reliability.client import Client
from benchmarks.reliability.load import mixed, saturating
from benchmarks.reliability.log import Log
from benchmarks.reliability.question import Question
from benchmarks.reliability.reconstructing import reconstructing
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["ROW", "beside", "outcome"]

NETWORK, CONNECTIONS = "fashion-vae", 10_000
AT_ONCE, SECONDS, ROUNDS = 16, 4.0, 5
PATIENCE_SECONDS = 30.0


class Speed(NamedTuple):
    """A round: right answers a second, their p99, and idle connections that stood at its end."""

    rate: float
    p99: float
    idle: int


def measure() -> Outcome:
    """Rounds without and with the idle connections take turns."""
    tally = Tally()
    with reconstructing(NETWORK) as (service, questions):
        _round(service, questions, tally, [])
        before = [Usage.of(pid) for pid in service.processes()]
        alone = [_round(service, questions, tally, [])]
        together = []
        for _ in range(ROUNDS):
            with idle_connections(service.port, CONNECTIONS) as idle:
                together.append(_round(service, questions, tally, idle))
                during = [Usage.of(pid) for pid in service.processes()]
            _let_go(service, before)
            alone.append(_round(service, questions, tally, []))
        log = Log.read(service.log)
    return log.added_to(outcome(alone, together, tally, usages=(before, during)))


def outcome(
    alone: list[Speed], together: list[Speed], tally: Tally, *, usages: tuple[list[Usage], list[Usage]]
) -> Outcome:
    """The row, from rounds `together`, each between two of `alone`."""
    ratio = beside([speed.rate for speed in alone], [speed.rate for speed in together])
    before, during = usages
    return Outcome(
        setting=f"Two workers; {CONNECTIONS:,} connections are opened, and kept open without a word, while {AT_ONCE} "
        f"clients that wait for their answers ask {NETWORK} to reconstruct one row as JSON: {ROUNDS} rounds of "
        f"{SECONDS:g} s with the idle connections, each between two without; what counts is the median of the rounds' "
        "ratios to the mean of their neighbours",
        checks=(
            Check(what="speed beside them / without them", measured=ratio, bound=0.9, at_most=False),
            Check(
                what="idle connections that stood at the end of every round",
                measured=min(speed.idle for speed in together),
                bound=CONNECTIONS,
                at_most=False,
            ),
            Check(
                what="requests that were not answered rightly", measured=len(tally) - tally.count(Verdict.OK), bound=0
            ),
        ),
        table=(
            ("", "requests/s, medians", "p99, ms", "memory of supervisor and workers, MB", "their open files"),
            *(
                (
                    name,
                    f"{statistics.median(speed.rate for speed in speeds):.0f}",
                    f"{statistics.median(speed.p99 for speed in speeds):.1f}",
                    ", ".join(f"{usage.memory:.0f}" for usage in held),
                    ", ".join(f"{usage.files:,}" for usage in held),
                )
                for name, speeds, held in (("without", alone, before), ("beside them", together, during))
            ),
        ),
        notes=(f"Not answered rightly: {tally.shown_reasons()}.",),
    )


def beside(alone: list[float], together: list[float]) -> float:
    """The median, over the rounds `together`, of each one's ratio to the mean of the rounds alone around it."""
    means = [(before + after) / 2 for before, after in pairwise(alone)]
    return statistics.median(speed / mean for speed, mean in zip(together, means, strict=True))


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many connections on which nothing is sent."""
    opened: list[socket.socket] = []
    try:
        while len(opened) < count:
            opened.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            opened[-1].setblocking(False)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def _round(service: Service, questions: list[Question], tally: Tally, idle: list[socket.socket]) -> Speed:
    start = time.monotonic()
    uvloop.run(_ask(service.port, questions, tally))
    part = tally.between(start, start + SECONDS)
    return Speed(part.count(Verdict.OK) / SECONDS, part.percentile_ms(99), sum(map(_stands, idle)))


async def _ask(port: int, questions: list[Question], tally: Tally) -> None:
    client = Client(port, tally)
    await saturating(client, mixed(questions), at_once=AT_ONCE, seconds=SECONDS)
    await client.close()


def _stands(connection: socket.socket) -> bool:
    """False once the other end has closed it, or said something."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _let_go(service: Service, before: list[Usage]) -> None:
    """The service has closed the idle connections. Raises TimeoutError."""
    end = time.monotonic() + PATIENCE_SECONDS
    while sum(Usage.of(pid).files for pid in service.processes()) > sum(usage.files for usage in before) + AT_ONCE:
        if time.monotonic() > end:
            raise TimeoutError("the service keeps connections open that their clients have closed")
        time.sleep(0.1)


ROW = Row(
    name="idle",
    title="10,000 idle connections",
    goal="served beside them at >= 90 % of normal speed",
    measure=measure,
)
