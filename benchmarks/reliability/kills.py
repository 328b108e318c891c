"""Workers are killed, one every five seconds: which requests are lost, and what do the others see?"""

import asyncio
import os
import random
import signal
import statistics
import time
from contextlib import suppress
from pathlib import Path

import uvloop

from benchmarks.reliability.client import Client
from benchmarks.reliability.eyes import holders
from benchmarks.reliability.load import by_the_clock, mixed, saturation, slept_until
from benchmarks.reliability.log import Log
from benchmarks.reliability.question import Question
from benchmarks.reliability.reconstructing import reconstructing
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["ROW", "kill", "outcome"]

NETWORK, SHARE, FRESH_EVERY = "fashion-vae", 0.5, 10
SECONDS, EVERY_SECONDS = 120.0, 5.0
PATIENCE_SECONDS, AFTER_SECONDS = 5.0, 1.0


def measure() -> Outcome:
    """Two minutes at half load."""
    with reconstructing(NETWORK) as (service, questions):
        outcome = uvloop.run(_measure(service, questions))
        service.wait_until_ready(2)
    return outcome


async def _measure(service: Service, questions: list[Question]) -> Outcome:
    tally, chance = Tally(), random.Random(0)
    client = Client(service.port, tally, fresh_every=FRESH_EVERY)
    rate = SHARE * await saturation(client, mixed(questions))
    await client.quiet()
    before = Usage.of(service.pid)
    start = time.monotonic()
    load = asyncio.create_task(by_the_clock(client, mixed(questions), rate=rate, seconds=SECONDS))
    endangered: list[int] = []
    while (due := start + EVERY_SECONDS * (len(endangered) + 1)) < start + SECONDS:
        await slept_until(due)
        endangered.append(kill(service, client, chance.choice(service.workers())))
    await load
    await client.quiet()
    await client.close()
    await asyncio.sleep(AFTER_SECONDS)
    found = outcome(
        tally.between(start, float("inf")),
        tally,
        endangered=endangered,
        surprises=client.surprises,
        rate=rate,
        supervisor=(before, Usage.of(service.pid)),
    )
    return Log.read(service.log).added_to(found, kills=len(endangered))


def kill(service: Service, client: Client, pid: int) -> int:
    """The worker is dead; returns how many requests were under way on its connections when it was killed.

    It is stopped while they are counted, and nothing is sent until it is dead, so that the count is exact.
    """
    os.kill(pid, signal.SIGSTOP)
    _wait(pid, "T")
    held = holders([pid], service.port)
    under_way = [connection for connection in client.busy if connection.port in held]
    for connection in under_way:
        connection.doomed = True
    os.kill(pid, signal.SIGKILL)
    _wait(pid, "")  # its first thread is dead before the last has closed the connections
    return len(under_way)


def outcome(
    tally: Tally,
    whole: Tally,
    *,
    endangered: list[int],
    surprises: int,
    rate: float,
    supervisor: tuple[Usage, Usage],
) -> Outcome:
    """The row, from what became of the requests since the kills began, and of all that were ever asked. `endangered`
    are those under way at each kill, `surprises` those that were lost besides."""
    lost = whole.count(Verdict.LOST)
    other = len(whole) - whole.count(Verdict.OK) - lost
    before, after = supervisor
    return Outcome(
        setting=f"Two workers; SIGKILL for one of the two, chosen at random, every {EVERY_SECONDS:g} s for "
        f"{SECONDS:g} s; {NETWORK} reconstructs one row as JSON, {rate:.0f} requests/s by the clock, half of what "
        f"the service bears, one in {FRESH_EVERY} over a connection of its own. Which requests are under way on the "
        "worker's connections is looked up in `/proc`, the worker stopped, right before the kill",
        checks=(
            Check(what="requests lost", measured=lost, bound=sum(endangered)),
            Check(what="of these, not under way on a worker that was killed", measured=surprises, bound=0),
            Check(what="other requests not answered with 200 and rightly", measured=other, bound=0),
            Check(what="open files of the supervisor, more than before", measured=after.files - before.files, bound=0),
        ),
        table=(
            ("kills", "under way at the kills", "lost", "requests", "p50, ms", "p99, ms", "p99.9, ms", "longest, ms"),
            (
                str(len(endangered)),
                f"{sum(endangered)} (median {statistics.median(endangered):g}, at most {max(endangered)})",
                str(lost),
                f"{len(tally):,}",
                *(f"{tally.percentile_ms(percent):.1f}" for percent in (50, 99, 99.9, 100)),
            ),
        ),
        notes=(
            f"Not answered: {whole.shown_reasons()}.",
            f"The supervisor held {before.memory:.1f} MB before and {after.memory:.1f} MB after.",
        ),
    )


def _wait(pid: int, states: str) -> None:
    """The process is in one of these states, T for stopped, or gone. Raises TimeoutError."""
    end = time.monotonic() + PATIENCE_SECONDS
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in states:
            if time.monotonic() > end:
                raise TimeoutError(f"process {pid} neither stops nor dies")
            time.sleep(0.0005)


ROW = Row(
    name="kills",
    title="Workers killed at half load",
    goal="lost <= under way at the kills; all else 200; a kill every 5 s for 2 minutes",
    measure=measure,
)
