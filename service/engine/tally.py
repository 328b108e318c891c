"""What has happened to a bundle's requests, in plain numbers: they are counted for every request, so counting costs
well under a microsecond, and read a few times a second."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt

from bundle.operations import Method

__all__ = ["P_EDGES", "ROWS_EDGES", "SECONDS_EDGES", "TRIAL", "Histogram", "Tally"]

P_EDGES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SECONDS_EDGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRIAL: ContextVar[bool] = ContextVar("trial", default=False)
"""True while the service tries an operation on rows of its own: their scores are nobody's."""


class Histogram:
    """How many values lay in (edge before, edge], the last beyond all edges, and their sum."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """The value is counted."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def observe_all(self, values: npt.NDArray[np.float64]) -> None:
        """Each of the values is counted."""
        if len(values) == 1:  # nearly always, and numpy would take ten times as long
            self.observe(float(values[0]))
            return
        places = np.searchsorted(self.edges, values, side="left")
        for place, count in enumerate(np.bincount(places, minlength=len(self.counts)).tolist()):
            self.counts[place] += count
        self.sum += float(values.sum())


class Tally:
    """The numbers of one version of a bundle. They outlive what is in memory of it, so that they never go back."""

    def __init__(self) -> None:
        self.batch_rows = Histogram(ROWS_EDGES)
        self.queue_seconds = Histogram(SECONDS_EDGES)
        """Of each part of a request, from when it was accepted to when its forward pass was begun."""
        self.forward_seconds: defaultdict[Method, Histogram] = defaultdict(lambda: Histogram(SECONDS_EDGES))
        self.decode_seconds = Histogram(SECONDS_EDGES)
        """Bodies to rows."""
        self.encode_seconds = Histogram(SECONDS_EDGES)
        """Results to answers."""
        self.p_values = Histogram(P_EDGES)
        self.anomalies = 0
        self.refused_for_rows = self.refused_for_bytes = 0
        """Requests that a bound of the queue has refused."""
        self.dropped = self.expired = 0
        """Entries that were never run: their clients had gone, or their deadlines had passed."""
        self.memory_shortages = 0
        """Batches that memory did not suffice for; they were tried in parts."""

    def scored(self, p_values: npt.NDArray[np.float64] | None, verdicts: npt.NDArray[np.bool_] | None) -> None:
        """Scores of clients' rows have been answered with these."""
        if TRIAL.get():
            return
        if p_values is not None:
            self.p_values.observe_all(p_values)
        if verdicts is not None:
            self.anomalies += int(np.count_nonzero(verdicts))
