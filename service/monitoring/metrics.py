"""What is measured, of this process and of all that serve with it."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from service.engine.repository import Repository
from service.engine.tally import Histogram, Tally
from service.monitoring.shared import Share
from service.monitoring.snapshot import Snapshot
from service.monitoring.traffic import Traffic

__all__ = ["PUBLISH_SECONDS", "HeldBodies", "Metrics"]

PUBLISH_SECONDS = 0.25
"""A process that is killed takes at most what it counted in this time with it."""
logger = logging.getLogger("diabolo.metrics")


class HeldBodies(Protocol):
    """What is counted of the bodies of requests."""

    held_bytes: int
    refused: int
    late: int
    too_slow: int


class Metrics:
    """The numbers of this process; where a folder is shared, they are published there and those of others found."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._tallies: defaultdict[tuple[str, int], Tally] = defaultdict(Tally)
        self._loads: Counter[str] = Counter()
        self._share: Share | None = None
        self._failed = False
        self._version = version("diabolo")  # reads all that is known of the package: not for every scrape

    def tally(self, name: str, number: int) -> Tally:
        """The tally of a version that has been loaded: the same as when it was loaded before."""
        self._loads[name] += 1
        return self._tallies[name, number]

    def share(self, folder: Path | None) -> None:
        """From here on the numbers are shared in this folder, if one is given."""
        self._share = Share(folder) if folder is not None else None

    def own(self, repository: Repository, bodies: HeldBodies, *, ready: bool) -> Snapshot:
        """The numbers of this process."""
        found = Snapshot()
        _add_traffic(found, self.traffic)
        for (name, number), tally in self._tallies.items():
            _add_tally(found, name, str(number), tally)
        _add_bundles(found, repository)
        for name, count in self._loads.items():
            found.add("model_reloads", (name, "loaded"), count)
        for (name, reason), count in repository.refusals.items():
            found.add("model_reloads", (name, "refused"), count)
            found.add("refused_bundles", (reason,), count)
        found.add("bodies_held_bytes", (), bodies.held_bytes)
        found.add("bodies_refused", ("held",), bodies.refused)
        found.add("bodies_refused", ("late",), bodies.late)
        found.add("bodies_refused", ("too-slow",), bodies.too_slow)
        found.add("ready", (), ready)
        found.add("workers", (), 1)
        found.add("workers_ended", (), 0)
        found.add("build_info", (self._version,), 1)
        return found

    async def together(self, own: Snapshot) -> Snapshot:
        """These numbers with those of the other processes, those that have ended included; where the folder cannot be
        used, these alone. They are published first, so that no other process is behind them ever after."""
        if self._share is None or not self._publish(own):
            return own
        return await asyncio.to_thread(self._share.all)

    async def publish(self, own: Callable[[], Snapshot]) -> None:
        """The others find the numbers, never older than PUBLISH_SECONDS; once more at the end, when this is
        cancelled."""
        try:
            while self._share is not None:
                self._publish(own())
                await asyncio.sleep(PUBLISH_SECONDS)
        finally:
            self._publish(own())

    def _publish(self, own: Snapshot) -> bool:
        if self._share is None:
            return False
        try:
            self._share.publish(own)
        except OSError as error:
            if not self._failed:
                logger.error("metrics cannot be shared: %s", error.strerror)
            self._failed = True
            return False
        self._failed = False
        return True


def _add_traffic(found: Snapshot, traffic: Traffic) -> None:
    found.add("http_requests_in_flight", (), traffic.in_flight)
    for (method, route, status), seconds in traffic.seconds.items():
        found.add("http_requests", (method, route, str(status)), sum(seconds.counts))
        _add_histogram(found, "http_request_duration_seconds", (method, route), seconds)
    for reason, count in traffic.refused.items():
        found.add("rejected_requests", (reason,), count)


def _add_tally(found: Snapshot, name: str, number: str, tally: Tally) -> None:
    _add_histogram(found, "queue_wait_seconds", (name,), tally.queue_seconds)
    _add_histogram(found, "batch_size", (name,), tally.batch_rows)
    for method, seconds in tally.forward_seconds.items():
        _add_histogram(found, "inference_duration_seconds", (name, method.value), seconds)
    _add_histogram(found, "stage_duration_seconds", (name, "decode"), tally.decode_seconds)
    _add_histogram(found, "stage_duration_seconds", (name, "encode"), tally.encode_seconds)
    _add_histogram(found, "anomaly_p_value", (name, number), tally.p_values)
    found.add("anomalies", (name,), tally.anomalies)
    found.add("queue_refusals", (name, "rows"), tally.refused_for_rows)
    found.add("queue_refusals", (name, "bytes"), tally.refused_for_bytes)
    found.add("queue_dropped", (name, "departed"), tally.dropped)
    found.add("queue_dropped", (name, "expired"), tally.expired)
    found.add("memory_shortages", (name,), tally.memory_shortages)


def _add_bundles(found: Snapshot, repository: Repository) -> None:
    for (name, number), model in repository.loaded.items():
        manifest, labels = model.manifest, (name, str(number))
        found.add("model_info", (*labels, str(manifest.family), model.platform, model.digest), 1)
        found.add("model_load_duration_seconds", labels, model.load_seconds)
        found.add("selftest_max_abs_error", labels, model.golden_error)
        if manifest.calibration is not None:
            found.add("calibration_size", labels, manifest.calibration.size)
        found.add("queue_depth", (name,), model.batcher.pending_rows)
    served = {model.manifest.name for model in repository.answering() if model.batcher.alive}
    for name in repository.names | served:
        if not repository.wanted.of(name).unloaded:
            found.add("model_ready", (name,), name in served)


def _add_histogram(found: Snapshot, family: str, labels: tuple[str, ...], histogram: Histogram) -> None:
    found.add(family, labels, *histogram.counts, histogram.sum)
