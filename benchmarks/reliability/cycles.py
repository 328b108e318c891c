"""Whether a bundle that comes, answers and goes a hundred times leaves anything behind."""

import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.reliability.administration import STATE, administer
from benchmarks.reliability.bundles import publish, shipped
from benchmarks.reliability.client import Client
from benchmarks.reliability.load import mixed, saturating
from benchmarks.reliability.question import Question
from benchmarks.reliability.questions import questions_of
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage, serving
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["POOL_GROWTH", "ROW", "growth", "outcome"]

NETWORK = "fashion-vae"
CYCLES, SETTLED, MEANT = 100, 10, 10
AT_ONCE, INFER_SECONDS = 8, 0.2
POOL_GROWTH = 4  # the event loop's own threads, cores + 4 of them, are started one by one
SHOWN = (1, 2, 5, 10, 20, 50, 100)


def measure() -> Outcome:
    """A hundred cycles of the only bundle."""
    with tempfile.TemporaryDirectory() as folder:
        models, state = Path(folder) / "models", Path(folder) / STATE
        state.mkdir()
        questions = questions_of(publish(shipped(NETWORK), models))
        with serving(models, poll_seconds=0.1, state_dir=state) as service:
            tally = Tally()
            start = time.monotonic()
            usages = [_cycle(service, questions, tally) for _ in range(CYCLES)]
            seconds = (time.monotonic() - start) / CYCLES
    return outcome(usages, tally, seconds=seconds)


def outcome(usages: list[list[Usage]], tally: Tally, *, seconds: float) -> Outcome:
    """The row, from what each worker held after each cycle and what became of the requests."""
    after = usages[SETTLED:]
    lines = []
    for place in range(len(usages[0])):
        held = [workers[place].memory for workers in usages]
        span = f"{min(held[SETTLED:]):.1f} to {max(held[SETTLED:]):.1f}"
        lines.append((f"memory of worker {place + 1}, MB", *(f"{held[cycle - 1]:.1f}" for cycle in SHOWN), span))
    return Outcome(
        setting=f"Two workers; {NETWORK} is loaded, answers {AT_ONCE} clients for {INFER_SECONDS:g} s in every "
        "operation and media type, and is unloaded, as by `diabolo models`; then, with nothing loaded, memory, open "
        f"files and threads of each worker are read. {CYCLES} times, {seconds:.2f} s each. Single readings move by "
        f"what the allocator happens to keep, so means of {MEANT} are compared: "
        f"{5e3 / (CYCLES - SETTLED - MEANT):.0f} kB lost in each cycle would be 5 MB",
        checks=(
            Check(
                what=f"memory, mean of the last {MEANT} cycles - mean of the {MEANT} after cycle {SETTLED}, "
                "of the worker that grew more",
                measured=growth(after, "memory"),
                bound=5,
                unit="MB",
            ),
            Check(what="open files, in the same way", measured=growth(after, "files"), bound=0),
            Check(
                what="threads, in the same way (a pool may still grow to its size)",
                measured=growth(after, "threads"),
                bound=POOL_GROWTH,
            ),
            Check(
                what="requests that were not answered rightly", measured=len(tally) - tally.count(Verdict.OK), bound=0
            ),
        ),
        table=(("after cycle", *map(str, SHOWN), f"span after cycle {SETTLED}"), *lines),
        notes=(f"{len(tally):,} requests. Not answered rightly: {tally.shown_reasons()}.",),
    )


def growth(usages: list[list[Usage]], what: str) -> float:
    """By how much the mean of a worker's last ten readings exceeds that of its first ten, the worst of all workers."""
    held = [[float(getattr(usage, what)) for usage in workers] for workers in usages]
    first, last = (map(statistics.fmean, zip(*part, strict=True)) for part in (held[:MEANT], held[-MEANT:]))
    return max(now - then for now, then in zip(last, first, strict=True))


def _cycle(service: Service, questions: list[Question], tally: Tally) -> list[Usage]:
    """What each worker holds once the bundle has come, answered and gone."""
    administer(service, NETWORK, "load")
    uvloop.run(_infer(service.port, questions, tally))
    administer(service, NETWORK, "unload")
    return [Usage.of(pid) for pid in service.workers()]


async def _infer(port: int, questions: list[Question], tally: Tally) -> None:
    client = Client(port, tally)
    await saturating(client, mixed(questions, seed=len(tally)), at_once=AT_ONCE, seconds=INFER_SECONDS)
    await client.close()


ROW = Row(
    name="cycles",
    title="Memory over load, infer, unload",
    goal="flat within 5 MB after the 10th of 100 cycles",
    measure=measure,
)
