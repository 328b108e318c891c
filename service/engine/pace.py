"""How long forward passes take, in numbers that cost well under a microsecond a pass."""

from collections.abc import Mapping

__all__ = ["Pace"]

RECENT = 0.2
"""The share of the newest pass in the means: the last ten or so count."""
SAME_ROWS = 16.0
"""Passes whose rows have no larger variance than this say little about what a row costs."""
HELD_UP = 2.0
TIMER_SECONDS = 0.001


class Pace:
    """A pass takes a fixed time and a time for each of its rows, as recent passes of all methods tell.

    Their mean tells how fast the machine is now, and where they differ in size, least squares tell the two parts apart.
    Where they do not, the parts have the proportion that they had in `measured`, seconds by the number of rows; without
    that a row costs nothing, until a larger pass has shown otherwise. An estimate that is too low costs one pass that
    comes late; one that is too high would refuse again and again what was never tried.

    Methods share it: what slows one down slows down all, which shows at once where those that are asked for change, and
    the methods of a bundle differ by a factor of two or so, as encoding does from reconstructing.
    """

    __slots__ = ("_common", "_fixed", "_per_row", "_rows", "_seconds", "_spread")

    def __init__(self, measured: Mapping[int, float] | None = None) -> None:
        points = sorted((measured or {1: 0.0}).items())
        (fewest, soonest), (most, latest) = points[0], points[-1]
        slope = (latest - soonest) / (most - fewest) if most > fewest else 0.0
        self._per_row = min(max(slope, 0.0), soonest / fewest)
        self._fixed = soonest - self._per_row * fewest
        self._rows, self._seconds = float(fewest), soonest
        self._spread = self._common = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """A pass of so many rows has taken so long. It counts for no more than twice what a pass of its size may take:
        after one that was held up, not all that wait are too late."""
        if self._seconds:
            usual = self._seconds * max(1.0, rows / max(self._rows, 1.0))
            seconds = min(seconds, HELD_UP * max(usual, TIMER_SECONDS))
            share = RECENT
        else:
            share = 1.0
        more, longer = rows - self._rows, seconds - self._seconds
        self._rows += share * more
        self._seconds += share * longer
        self._spread = (1 - share) * (self._spread + share * more * more)
        self._common = (1 - share) * (self._common + share * more * longer)

    def seconds(self, rows: int) -> float:
        """How long a pass of so many rows takes, as far as that is known; 0 where nothing is."""
        if not self._seconds:
            return 0.0
        alone = self._fixed + self._per_row * self._rows
        measured = self._per_row * self._seconds / alone if alone else 0.0
        slope = (self._common + SAME_ROWS * measured) / (self._spread + SAME_ROWS)
        slope = min(max(slope, 0.0), self._seconds / max(self._rows, 1.0))
        return max(self._seconds + slope * (rows - self._rows), 0.0)

    def seconds_in_batches(self, rows: int, *, most: int) -> float:
        """How long so many rows take in passes of at most `most` rows."""
        full, rest = divmod(rows, most)
        return full * self.seconds(most) + (self.seconds(rest) if rest else 0.0)
