"""The service with more and less of what observes it, and what is compared with what."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["COMPARISONS", "VARIANTS", "Comparison"]

OFF: Mapping[str, str] = {"DIABOLO_METRICS": "0", "DIABOLO_LOG_LEVEL": "error"}
METRICS: Mapping[str, str] = {"DIABOLO_LOG_LEVEL": "warning"}
LINES: Mapping[str, str] = {"DIABOLO_LOG_LEVEL": "info", "DIABOLO_LOG_FORMAT": "json"}
COLLECTOR = "COLLECTOR"
"""Stands for the collector's address."""
TRACES: Mapping[str, str] = {**METRICS, "OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}
SAMPLED: Mapping[str, str] = {
    **TRACES,
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "off": OFF,
    "metrics": METRICS,
    "lines": LINES,
    "sampled": SAMPLED,
    "traces": TRACES,
}


class Comparison(NamedTuple):
    """A variant next to another that has less. `goal`: the most of the throughput that it may cost, where there is
    one."""

    variant: str
    base: str
    title: str
    goal: float | None = None


COMPARISONS = (
    Comparison("metrics", "off", "metrics, and lines for failures and slow requests", 0.05),
    Comparison("lines", "metrics", "a line of JSON for each request besides"),
    Comparison("sampled", "metrics", "traces of 1 % of the requests besides"),
    Comparison("traces", "metrics", "traces of all requests besides"),
)
