"""Four times more is asked than can be done: what is still answered, how soon, and how soon all is well again."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.reliability.client import Client
from benchmarks.reliability.load import by_the_clock, mixed, saturation
from benchmarks.reliability.question import Question
from benchmarks.reliability.row import Check, Outcome
from benchmarks.reliability.service import Service, Usage
from benchmarks.reliability.tally import Tally, Verdict
from service.settings import Settings

__all__ = ["DEADLINE", "DEADLINE_SECONDS", "Phase", "outcome", "overload"]

DEADLINE_SECONDS = 1.0
DEADLINE = {"Request-Timeout-Ms": f"{1000 * DEADLINE_SECONDS:.0f}"}
STEPS, STEP_SECONDS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0), 5.0
TIMES, OVERLOAD_SECONDS = 4.0, 10.0
CALM, CALM_SECONDS = 0.5, 6.0
NORMAL_AFTER_SECONDS = 2.0
MEMORY_SECONDS = 0.2
# What is held besides, by what the service bounds: rows have outputs, bodies are parsed, and what was freed is kept.
MEMORY_TIMES = 2
LEAST_OFFERED = 3.0


class Phase(NamedTuple):
    """A time of load by the clock: so many times what the service bears, and what became of the requests."""

    times: float
    start: float
    end: float
    tally: Tally
    memory: tuple[float, float]
    """The most that all processes of the service held in the first and in the second half, in MB."""
    cost: float
    """The share of a core that the client took."""

    @property
    def goodput(self) -> float:
        """Right answers within the deadline, a second."""
        return self.tally.within(DEADLINE_SECONDS) / (self.end - self.start)


async def overload(service: Service, questions: Sequence[Question]) -> tuple[list[Phase], Tally]:
    """Loads around what the service bears, one after the other with a pause between them; then without one half of it,
    four times as much, and half of it again: the last three phases. And all that has been asked at any time."""
    tally = Tally()
    client = Client(service.port, tally)
    order = mixed(questions)
    bears = await saturation(client, order)
    phases = []
    for times in STEPS:
        phases.append(await _phase(service, client, order, times=times, rate=times * bears, seconds=STEP_SECONDS))
        await client.quiet()
    for times, seconds in ((CALM, CALM_SECONDS), (TIMES, OVERLOAD_SECONDS), (CALM, CALM_SECONDS)):
        phases.append(await _phase(service, client, order, times=times, rate=times * bears, seconds=seconds))
    await client.quiet()
    await client.close()
    return [phase._replace(tally=tally.between(phase.start, phase.end)) for phase in phases], tally


async def _phase(
    service: Service, client: Client, order: Iterator[Question], *, times: float, rate: float, seconds: float
) -> Phase:
    start, spent = time.monotonic(), time.process_time()
    load = asyncio.create_task(by_the_clock(client, order, rate=rate, seconds=seconds, seed=round(start)))
    memory = [0.0, 0.0]
    pids = service.processes()
    while not load.done():
        held = sum(Usage.of(pid).memory for pid in pids)
        half = int(time.monotonic() > start + seconds / 2)
        memory[half] = max(memory[half], held)
        await asyncio.wait([load], timeout=MEMORY_SECONDS)
    await load
    cost = (time.process_time() - spent) / (time.monotonic() - start)
    return Phase(times, start, start + seconds, Tally(), (memory[0], memory[1]), cost)


def outcome(phases: Sequence[Phase], whole: Tally, *, setting: str, settings: Settings, row_bytes: int) -> Outcome:
    """The row, from what `overload` returns, of a service with these settings and rows of so many bytes."""
    before, over, after = phases[-3:]
    offered = len(over.tally) / (over.end - over.start)
    pending = min(settings.max_pending_bytes, settings.max_pending_rows * row_bytes)
    most = settings.workers * MEMORY_TIMES * (settings.max_bodies_bytes + pending) / 1e6
    settled = after.tally.between(after.start + NORMAL_AFTER_SECONDS, after.end)
    peak = max(phase.goodput for phase in phases)
    unanswered = len(settled) - settled.count(Verdict.OK)
    bad = whole.count(Verdict.LOST) + whole.count(Verdict.WRONG)
    return Outcome(
        setting=f"{setting}. Every request has a deadline of {DEADLINE_SECONDS:g} s (`Request-Timeout-Ms`), and "
        "goodput is right answers within it. Load by the clock, in multiples of what 16 clients get that wait for "
        f"their answers: phases of {STEP_SECONDS:g} s with a pause after each, then without one half of it, {TIMES:g} "
        f"times as much for {OVERLOAD_SECONDS:g} s, and half again. What is not refused is accepted; if it is not "
        "answered, it counts as having taken as long as its deadline, however soon that was said. Memory may grow by "
        f"{MEMORY_TIMES} times what large bodies and waiting rows may have in all workers",
        checks=(
            Check(
                what=f"goodput at {TIMES:g} times saturation / its peak",
                measured=over.goodput / peak if peak else float("nan"),
                bound=0.9,
                at_most=False,
            ),
            Check(
                what="asked for then / peak of goodput",
                measured=offered / peak if peak else float("nan"),
                bound=LEAST_OFFERED,
                at_most=False,
            ),
            Check(
                what="p99 of what was accepted then",
                measured=over.tally.accepted_percentile_ms(99, deadline=DEADLINE_SECONDS),
                bound=1000 * DEADLINE_SECONDS,
                unit="ms",
            ),
            Check(
                what="of what was accepted then, answered within the deadline",
                measured=100 * over.tally.accepted_within(DEADLINE_SECONDS),
                bound=99,
                at_most=False,
                unit="%",
            ),
            Check(
                what="memory, most at any time - most at half load before anything was too much",
                measured=max(max(phase.memory) for phase in phases) - max(phases[0].memory),
                bound=most,
                unit="MB",
            ),
            Check(
                what="memory, most in the second half of the overload / in the first",
                measured=over.memory[1] / over.memory[0],
                bound=1.1,
            ),
            Check(
                what=f"p99 from {NORMAL_AFTER_SECONDS:g} s after on / before it",
                measured=settled.percentile_ms(99) / before.tally.percentile_ms(99),
                bound=2.0,
            ),
            Check(what="requests not answered from then on", measured=unanswered, bound=0),
            Check(what="requests lost or wrong at any time", measured=bad, bound=0),
        ),
        table=(
            (
                "offered / saturation",
                *("offered, 1/s", "goodput, 1/s", *(verdict.name.lower() for verdict in Verdict)),
                *("p50, ms", "p99, ms", "memory, MB", "client, of a core"),
            ),
            *(_line(phase) for phase in phases),
        ),
        notes=(f"At any time, not answered: {whole.shown_reasons()}.",),
    )


def _line(phase: Phase) -> tuple[str, ...]:
    tally = phase.tally
    return (
        f"{phase.times:g}",
        f"{len(tally) / (phase.end - phase.start):.0f}",
        f"{phase.goodput:.1f}",
        *(f"{tally.count(verdict):,}" for verdict in Verdict),
        *(f"{tally.percentile_ms(percent):.1f}" for percent in (50, 99)),
        f"{max(phase.memory):.0f}",
        f"{100 * phase.cost:.0f} %",
    )
