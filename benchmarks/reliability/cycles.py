"""Whether a bundle that comes, answers and goes a hundred times leaves anything behind."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.reliability.administration import STATE, administer
from benchmarks.reliability.bundles import publish, shipped
from benchmarks.reliability.client import Client
from benchmarks.reliability.load import mixed, saturating
from benchmarks.reliability.log import Log
from benchmarks.reliability.question import Question
from benchmarks.reliability.questions import questions_of
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage, serving
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["POOL_GROWTH", "ROW", "growth", "outcome", "span", "was_freed"]

NETWORK = "fashion-vae"
CYCLES, SETTLED, MEANT = 100, 10, 10
AT_ONCE, INFER_SECONDS = 8, 0.2
POOL_GROWTH = 4  # the event loop's own threads, cores + 4 of them, are started one by one
# What the service says once a retired version's memory has been given back.
FREED, FREED_SECONDS, LOOK_SECONDS = " has been freed", 2.0, 0.02
SHOWN = (1, 2, 5, 10, 20, 50, 100)


def measure() -> Outcome:
    """A hundred cycles of the only bundle."""
    with tempfile.TemporaryDirectory() as folder:
        models, state = Path(folder) / "models", Path(folder) / STATE
        state.mkdir()
        questions = questions_of(publish(shipped(NETWORK), models))
        with serving(models, poll_seconds=0.1, state_dir=state, log_level="info", log_share=0) as service:
            tally = Tally()
            start = time.monotonic()
            found = [_cycle(service, questions, tally, number) for number in range(1, CYCLES + 1)]
            seconds = (time.monotonic() - start) / CYCLES
        log = Log.read(service.log)
    usages, freed = zip(*found, strict=True)
    return log.added_to(outcome(usages, tally, seconds=seconds, late=freed.count(False)))


def outcome(usages: Sequence[list[Usage]], tally: Tally, *, seconds: float, late: int) -> Outcome:
    """The row, from what each worker held after each cycle, what became of the requests, and after how many cycles the
    bundle was not freed in time."""
    after = usages[SETTLED:]
    lines = []
    for place in range(len(usages[0])):
        held = [workers[place].memory for workers in usages]
        reach = f"{min(held[SETTLED:]):.1f} to {max(held[SETTLED:]):.1f}"
        lines.append((f"memory of worker {place + 1}, MB", *(f"{held[cycle - 1]:.1f}" for cycle in SHOWN), reach))
    return Outcome(
        setting=f"Two workers; {NETWORK} is loaded, answers {AT_ONCE} clients for {INFER_SECONDS:g} s in every "
        "operation and media type, and is unloaded, as by `diabolo models`; then, once each worker says that it has "
        f"been freed, or {FREED_SECONDS:g} s later, memory, open files and threads of each worker are read. {CYCLES} "
        f"times, {seconds:.2f} s each. "
        f"Of means of {MEANT} readings {5e3 / (CYCLES - SETTLED - MEANT):.0f} kB lost in each cycle would be 5 MB",
        checks=(
            Check(
                what=f"memory, mean of the last {MEANT} cycles - mean of the {MEANT} after cycle {SETTLED}, "
                "of the worker that grew more",
                measured=growth(after, "memory"),
                bound=5,
                unit="MB",
            ),
            Check(
                what=f"memory, most - least after cycle {SETTLED}, of the worker where that is more",
                measured=span(after),
                bound=5,
                unit="MB",
            ),
            Check(
                what=f"cycles after which a worker had not freed it {FREED_SECONDS:g} s later", measured=late, bound=0
            ),
            Check(what="open files, in the same way as the means", measured=growth(after, "files"), bound=0),
            Check(
                what="threads, likewise (a pool may still grow to its size)",
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


def growth(usages: Sequence[list[Usage]], what: str) -> float:
    """By how much the mean of a worker's last ten readings exceeds that of its first ten, the worst of all workers."""
    held = [[float(getattr(usage, what)) for usage in workers] for workers in usages]
    first, last = (map(statistics.fmean, zip(*part, strict=True)) for part in (held[:MEANT], held[-MEANT:]))
    return max(now - then for now, then in zip(last, first, strict=True))


def span(usages: Sequence[list[Usage]]) -> float:
    """By how much a worker's readings of memory differ, of the worker where they differ most."""
    by_worker: list[list[float]] = [[usage.memory for usage in readings] for readings in zip(*usages, strict=True)]
    return max(max(held) - min(held) for held in by_worker)


def was_freed(log: Path, times: int, *, seconds: float = FREED_SECONDS) -> bool:
    """Whether the log has said so often that a version has been freed, or does within so long.

    Workers acknowledge an unload once nobody finds the bundle any more, which is before its threads have ended and its
    memory has been given back. Where something holds it the service waits as long as for a request under way, and then
    says the same, whoever holds it: so this must not wait for that.
    """
    end = time.monotonic() + seconds
    while log.read_text().count(FREED) < times:
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _cycle(service: Service, questions: list[Question], tally: Tally, number: int) -> tuple[list[Usage], bool]:
    """What each worker holds once the bundle has come, answered and gone for this time; whether all had freed it."""
    administer(service, NETWORK, "load")
    uvloop.run(_infer(service.port, questions, tally))
    administer(service, NETWORK, "unload")
    freed = was_freed(service.log, number * len(service.workers()))
    return [Usage.of(pid) for pid in service.workers()], freed


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
