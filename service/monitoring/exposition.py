"""Numbers as Prometheus reads them."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from service.monitoring.families import FAMILIES, Kind
from service.monitoring.snapshot import Snapshot

__all__ = ["exposed"]


def exposed(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The text and its media type, of those that Prometheus has the one that is preferred."""
    registry = CollectorRegistry()
    registry.register(_Found(snapshot))
    encode, media = choose_encoder(accept)
    return encode(registry), media


class _Found(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Every family, also those that have no numbers yet."""
        for name, family in FAMILIES.items():
            found = sorted(self._snapshot.values.get(name, {}).items())
            name, text = f"diabolo_{name}", family.text
            if family.kind is Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(name, text, labels=family.labels)
                edges = [*map(floatToGoString, family.edges), "+Inf"]
                for labels, (*counts, total) in found:
                    histogram.add_metric(labels, list(zip(edges, accumulate(counts), strict=True)), total)
                yield histogram
            else:
                kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
                metric = kind(name, text, labels=family.labels)
                for labels, (number,) in found:
                    metric.add_metric(labels, number)
                yield metric
