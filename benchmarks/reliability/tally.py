"""What became of every request, and how long the answers took."""

from array import array
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum

import numpy as np

__all__ = ["Tally", "Verdict"]

SHOWN = 5


class Verdict(IntEnum):
    """What became of a request. REFUSED is said honestly: 429 or 503 with a reason and `Retry-After`. LATE was not, and
    is told by a 504 with a reason, or within its answer, that its time is over. LOST got no whole answer: no
    connection, one that broke, or silence. WRONG is everything else."""

    OK = 0
    REFUSED = 1
    LATE = 2
    LOST = 3
    WRONG = 4


class Tally:
    """Every request that has ended: when it was due, how many seconds later it ended, and how.

    17 bytes each, so that an hour's can be kept. `reasons` counts what was said of those that were not answered.
    """

    def __init__(self) -> None:
        self._due, self._seconds, self._verdicts = array("d"), array("d"), array("b")
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, due: float, seconds: float, verdict: Verdict, reason: str = "") -> None:
        """One more has ended."""
        self._due.append(due)
        self._seconds.append(seconds)
        self._verdicts.append(verdict)
        if reason:
            self.reasons[f"{verdict.name.lower()}: {reason}"] += 1

    def count(self, verdict: Verdict) -> int:
        """How many ended so."""
        return self._verdicts.count(verdict)

    def between(self, start: float, end: float) -> "Tally":
        """Those that were due in this time, without reasons."""
        due = np.array(self._due)
        chosen = (due >= start) & (due < end)
        part = Tally()
        part._due.frombytes(due[chosen].tobytes())
        part._seconds.frombytes(np.array(self._seconds)[chosen].tobytes())
        part._verdicts.frombytes(np.array(self._verdicts)[chosen].tobytes())
        return part

    @classmethod
    def joined(cls, parts: Iterable["Tally"]) -> "Tally":
        """All of them in one."""
        whole = cls()
        for part in parts:
            whole._due += part._due
            whole._seconds += part._seconds
            whole._verdicts += part._verdicts
            whole.reasons += part.reasons
        return whole

    def percentile_ms(self, percent: float) -> float:
        """So many percent of the right answers took at most so many milliseconds; not a number without answers."""
        return _percentile_ms(self._answered(), percent)

    def accepted_percentile_ms(self, percent: float, *, deadline: float) -> float:
        """As `percentile_ms`, of all that was not refused: what was not answered rightly took `deadline` seconds at
        least, however soon that was said."""
        verdicts, seconds = np.array(self._verdicts), np.array(self._seconds)
        seconds = np.where(verdicts == Verdict.OK, seconds, np.maximum(seconds, deadline))[verdicts != Verdict.REFUSED]
        return _percentile_ms(seconds, percent)

    def accepted_within(self, seconds: float) -> float:
        """The share of what was not refused that was answered rightly within so long; not a number if all was
        refused."""
        accepted = len(self) - self.count(Verdict.REFUSED)
        return self.within(seconds) / accepted if accepted else float("nan")

    def within(self, seconds: float) -> int:
        """How many right answers took at most so long."""
        return int((self._answered() <= seconds).sum())

    def shown_reasons(self, *verdicts: Verdict) -> str:
        """What was said most often of those that were not answered, or of those that ended so."""
        starts = tuple(verdict.name.lower() for verdict in verdicts) or ("",)
        found = [(reason, count) for reason, count in self.reasons.most_common() if reason.startswith(starts)]
        return "; ".join(f"{count} x {reason}" for reason, count in found[:SHOWN]) or "none"

    def _answered(self) -> np.ndarray:
        """Seconds of the right answers, (n,)."""
        answered: np.ndarray = np.array(self._seconds)[np.array(self._verdicts) == Verdict.OK]
        return answered


def _percentile_ms(seconds: np.ndarray, percent: float) -> float:
    return float(np.percentile(seconds, percent, method="higher")) * 1000 if len(seconds) else float("nan")
