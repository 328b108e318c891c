"""What a service has said on its log: workers that ended, and what should never be there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from benchmarks.reliability.row import Check, Outcome

__all__ = ["Log"]

ENDED = re.compile(r"\bworker \d+ ended after ")
SHOWN = 3
FAULT = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) |has not been heard of|^Traceback \(most recent call last\)")


class Log(NamedTuple):
    """How many workers have ended, and the other lines that tell of errors, the beginnings of tracebacks among them."""

    ended: int
    faults: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """What the file says, whose lines are as `service.logs.TEXT` has them."""
        ended, faults = 0, []
        with path.open(errors="replace") as lines:
            for line in lines:
                if ENDED.search(line):
                    ended += 1
                elif FAULT.search(line):
                    faults.append(line.rstrip())
        return cls(ended, tuple(faults))

    def added_to(self, outcome: Outcome, *, kills: int = 0) -> Outcome:
        """The outcome also misses where the log tells of an error, or of other ends of workers than so many kills."""
        checks = (
            Check(what="workers that ended, more or fewer than were killed", measured=abs(self.ended - kills), bound=0),
            Check(what="errors in the service's log", measured=len(self.faults), bound=0),
        )
        notes = (f"The log says: {' / '.join(self.faults[:SHOWN])}.",) if self.faults else ()
        return replace(outcome, checks=(*outcome.checks, *checks), notes=(*outcome.notes, *notes))
