"""What a soak has shown: what became of the requests, and what the processes held after each lap."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.reliability.cycles import POOL_GROWTH
from benchmarks.reliability.row import Check, Outcome
from benchmarks.reliability.service import Usage
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["Held", "Soaked", "growth", "outcome"]

LONGEST_TABLE = 12


class Held(NamedTuple):
    """What was held at rest after a lap, by the supervisor and by the worker that is never killed, and how many asyncio
    tasks that one had."""

    supervisor: Usage
    elder: Usage
    tasks: int


@dataclass
class Soaked:
    """Everything that is found out on the way."""

    tally: Tally = field(default_factory=Tally)
    laps: list[Held] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """How often each disturbance was brought about."""
    bursts: list[tuple[float, float]] = field(default_factory=list)
    """When there was overload, from its start until it was to be over."""
    endangered: int = 0
    """Requests under way at the kills."""
    surprises: int = 0
    """Lost requests that were not among them."""
    cost: float = 0.0
    """The share of a core that the client took."""
    others: float = 0.0
    """The share of the machine's cores that neither the service nor the client took."""
    seconds: float = 0.0
    """How long it has lasted."""
    broken: str = ""
    """What ended it before its time."""

    def progress(self, surprises: int) -> str:
        """A line on all that has been so far, in case that nothing follows."""
        verdicts = ", ".join(f"{self.tally.count(verdict)} {verdict.name.lower()}" for verdict in Verdict)
        held = self.laps[-1]
        return (
            f"{len(self.laps)} laps ({dict(self.done)}): {len(self.tally)} requests, {verdicts}; "
            f"{self.endangered} under way at kills, {surprises} lost besides; at rest the elder worker has "
            f"{held.elder}, {held.tasks} tasks, the supervisor {held.supervisor}; refused: "
            f"{self.tally.shown_reasons(Verdict.REFUSED)}; not answered: "
            f"{self.tally.shown_reasons(Verdict.WRONG, Verdict.LOST)}"
        )


def growth(laps: Sequence[Held], of: Callable[[Held], float]) -> float:
    """How much more was held at least in the last quarter of the laps than in the second; the first one warms up. At
    least, because what the allocator happens to keep of an overload comes and goes."""
    quarter = max(1, len(laps) // 4)
    return min(map(of, laps[-quarter:])) - min(map(of, laps[quarter : 2 * quarter] or laps[:1]))


def outcome(soaked: Soaked, *, minutes: float, tracebacks: int, setting: str) -> Outcome:
    """The row."""
    tally, laps = soaked.tally, soaked.laps
    in_bursts = [tally.between(*burst) for burst in soaked.bursts]
    refused, expected = tally.count(Verdict.REFUSED), sum(part.count(Verdict.REFUSED) for part in in_bursts)
    done = ", ".join(f"{times} x {what}" for what, times in soaked.done.items())
    return Outcome(
        setting=f"{setting} {minutes:g} minutes, {len(laps)} laps: {done}. The client takes "
        f"{100 * soaked.cost:.0f} % of a core, other programs {100 * soaked.others:.0f} % of the machine",
        checks=(
            Check(what="requests lost", measured=tally.count(Verdict.LOST), bound=soaked.endangered),
            Check(what="of these, not under way on a worker that was killed", measured=soaked.surprises, bound=0),
            Check(what="wrong answers", measured=tally.count(Verdict.WRONG), bound=0),
            Check(what="requests refused while there was no overload", measured=refused - expected, bound=0),
            Check(what="tracebacks in the service's log", measured=tracebacks, bound=0),
            Check(what="broken off before its time", measured=bool(soaked.broken), bound=0),
            *(
                Check(what=f"growth of the worker's {what}", measured=growth(laps, of), bound=bound, unit=unit)
                for what, of, bound, unit in (
                    ("memory", lambda held: held.elder.memory, 10, "MB"),
                    ("open files", lambda held: held.elder.files, 0, ""),
                    ("threads", lambda held: held.elder.threads, POOL_GROWTH, ""),
                    ("asyncio tasks", lambda held: held.tasks, 0, ""),
                )
            ),
            *(
                Check(what=f"growth of the supervisor's {what}", measured=growth(laps, of), bound=bound, unit=unit)
                for what, of, bound, unit in (
                    ("memory", lambda held: held.supervisor.memory, 5, "MB"),
                    ("open files", lambda held: held.supervisor.files, 0, ""),
                    ("threads", lambda held: held.supervisor.threads, 0, ""),
                )
            ),
        ),
        table=(
            (
                *("at rest after lap", "worker: memory, MB", "open files", "threads", "tasks"),
                *("supervisor: memory, MB", "open files", "threads"),
            ),
            *(
                (
                    str(lap + 1),
                    *(f"{held.elder.memory:.1f}", str(held.elder.files), str(held.elder.threads), str(held.tasks)),
                    *(f"{held.supervisor.memory:.1f}", str(held.supervisor.files), str(held.supervisor.threads)),
                )
                for lap, held in enumerate(laps)
                if lap % (len(laps) // LONGEST_TABLE + 1) == 0 or lap == len(laps) - 1
            ),
        ),
        notes=(
            f"{len(tally):,} requests: {tally.count(Verdict.OK):,} answered rightly, {refused:,} refused "
            f"({expected:,} of them in overload), {tally.count(Verdict.LOST):,} lost of {soaked.endangered:,} that "
            f"were under way at the kills. p50 {tally.percentile_ms(50):.1f} ms, p99 {tally.percentile_ms(99):.0f} ms.",
            f"Refused: {tally.shown_reasons(Verdict.REFUSED)}.",
            f"Lost or wrong: {tally.shown_reasons(Verdict.WRONG, Verdict.LOST)}.",
            *([f"Broken off after {soaked.seconds / 60:.1f} minutes: {soaked.broken}."] if soaked.broken else []),
            "Growth is the least of the last quarter of the laps less that of the second quarter.",
        ),
    )
