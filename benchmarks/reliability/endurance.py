"""What a soak has shown: what became of the requests, and what the processes held after each lap."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks.reliability.cycles import POOL_GROWTH
from benchmarks.reliability.row import Check, Outcome
from benchmarks.reliability.service import Usage
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["Held", "Soaked", "growth", "lasting", "outcome"]

LONGEST_TABLE = 12
# So that no quarter of them is empty.
FEWEST_LAPS = 4


class Held(NamedTuple):
    """What was held at rest after a lap, by the supervisor and by the oldest worker; how many asyncio tasks that one
    had, and its process id."""

    supervisor: Usage
    elder: Usage
    tasks: int
    pid: int


@dataclass
class Soaked:
    """Everything that is found out on the way."""

    tally: Tally = field(default_factory=Tally)
    laps: list[Held] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """How often each disturbance was brought about."""
    elder: int = 0
    """The process id of the worker that is never killed."""
    bears: list[float] = field(default_factory=list)
    """Right answers a second that a few clients got at the beginning of each lap."""
    kills: int = 0
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
            f"{held.elder}, {held.tasks} tasks, the supervisor {held.supervisor}; refused "
            f"or late: {self.tally.shown_reasons(Verdict.REFUSED, Verdict.LATE)}; not answered: "
            f"{self.tally.shown_reasons(Verdict.WRONG, Verdict.LOST)}"
        )


def growth(laps: Sequence[Held], of: Callable[[Held], float]) -> float:
    """How much more was held at least in the last quarter of the laps than in the second; the first one warms up. At
    least, because what the allocator happens to keep of an overload comes and goes. Not a number for fewer than four
    laps."""
    if len(laps) < FEWEST_LAPS:
        return float("nan")
    quarter = len(laps) // 4
    return min(map(of, laps[-quarter:])) - min(map(of, laps[quarter : 2 * quarter]))


def lasting(bears: Sequence[float]) -> float:
    """What the service bears in the last quarter of the laps, as a share of what it did in the first: medians. Not a
    number for fewer than four laps, or where it has borne nothing."""
    quarter = len(bears) // 4
    first = median(bears[:quarter]) if quarter else 0.0
    return median(bears[-quarter:]) / first if first else float("nan")


def outcome(soaked: Soaked, *, minutes: float, setting: str) -> Outcome:
    """The row."""
    tally, laps = soaked.tally, soaked.laps
    burst = Tally.joined(tally.between(*times) for times in soaked.bursts)
    answered, asked = (tally.count(Verdict.OK) - burst.count(Verdict.OK), len(tally) - len(burst))
    refused, expected = (part.count(Verdict.REFUSED) + part.count(Verdict.LATE) for part in (tally, burst))
    done = ", ".join(f"{times} x {what}" for what, times in soaked.done.items())
    return Outcome(
        setting=f"{setting} {minutes:g} minutes, {len(laps)} laps: {done}. The client takes "
        f"{100 * soaked.cost:.0f} % of a core, other programs {100 * soaked.others:.0f} % of the machine",
        checks=(
            Check(what="requests lost", measured=tally.count(Verdict.LOST), bound=soaked.endangered),
            Check(what="of these, not under way on a worker that was killed", measured=soaked.surprises, bound=0),
            Check(what="wrong answers", measured=tally.count(Verdict.WRONG), bound=0),
            Check(what="requests refused or late while there was no overload", measured=refused - expected, bound=0),
            Check(
                what="of requests while there was no overload, answered rightly",
                measured=100 * answered / asked if asked else float("nan"),
                bound=99.9,
                at_most=False,
                unit="%",
            ),
            Check(
                what="what the service bears in the last quarter of the laps / in the first",
                measured=lasting(soaked.bears),
                bound=0.5,
                at_most=False,
            ),
            Check(
                what="laps after which the worker that is never killed was another process",
                measured=sum(held.pid != soaked.elder for held in laps),
                bound=0,
            ),
            Check(what="laps", measured=len(laps), bound=FEWEST_LAPS, at_most=False),
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
            f"{len(tally):,} requests: {tally.count(Verdict.OK):,} answered rightly, {refused:,} refused or "
            f"late ({expected:,} of them in overload), {tally.count(Verdict.LOST):,} lost of {soaked.endangered:,} "
            f"that were under way at the kills. p50 {tally.percentile_ms(50):.1f} ms, p99 "
            f"{tally.percentile_ms(99):.0f} ms.",
            f"Refused or late: {tally.shown_reasons(Verdict.REFUSED, Verdict.LATE)}.",
            f"Lost or wrong: {tally.shown_reasons(Verdict.WRONG, Verdict.LOST)}.",
            *([f"Broken off after {soaked.seconds / 60:.1f} minutes: {soaked.broken}."] if soaked.broken else []),
            "Growth is the least of the last quarter of the laps less that of the second quarter.",
        ),
    )
