"""What has been asked of the process and how that ended, in plain numbers."""

from collections import Counter

from service.engine.tally import SECONDS_EDGES, Histogram

__all__ = ["GONE", "Traffic"]

GONE = 499
"""The status of what nobody waited for any more, as nginx has it."""


class Traffic:
    """The requests of one process. Methods and routes are those that there are, never what a client wrote."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.seconds: dict[tuple[str, str, int], Histogram] = {}
        """By method, route and status."""
        self.refused: Counter[str] = Counter()

    def ended(self, method: str, route: str, *, status: int, seconds: float, refused: str | None) -> None:
        """A request that was in flight has ended, refused for this reason if any."""
        self.in_flight -= 1
        key = (method, route, status)
        histogram = self.seconds.get(key)
        if histogram is None:
            histogram = self.seconds[key] = Histogram(SECONDS_EDGES)
        histogram.observe(seconds)
        if refused is not None:
            self.refused[refused] += 1
