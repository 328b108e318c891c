"""The table of everything that is measured: names, labels, and how the numbers of several processes become one."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from service.engine.tally import P_EDGES, ROWS_EDGES, SECONDS_EDGES

__all__ = ["FAMILIES", "Family", "Kind", "Merge"]


class Kind(Enum):
    """What a number is. Counters and histograms only grow; gauges are how things are now."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(Enum):
    """What a gauge is over all processes: the sum of theirs, or the largest, or the smallest."""

    SUM = "sum"
    LARGEST = "largest"
    SMALLEST = "smallest"


class Family(NamedTuple):
    """One metric, called `diabolo_<name>`, and what its numbers are told apart by."""

    kind: Kind
    text: str
    labels: Sequence[str] = ()
    merge: Merge = Merge.SUM
    edges: Sequence[float] = ()


def _counter(text: str, *labels: str) -> Family:
    return Family(Kind.COUNTER, text, labels)


def _gauge(text: str, *labels: str, merge: Merge = Merge.SUM) -> Family:
    return Family(Kind.GAUGE, text, labels, merge)


def _histogram(text: str, *labels: str, edges: Sequence[float] = SECONDS_EDGES) -> Family:
    return Family(Kind.HISTOGRAM, text, labels, Merge.SUM, edges)


FAMILIES: Mapping[str, Family] = {
    "http_requests": _counter(
        "Requests that have ended; status 499: their clients had gone", "method", "route", "status"
    ),
    "http_request_duration_seconds": _histogram("From a request's head to the end of its answer", "method", "route"),
    "http_requests_in_flight": _gauge("Requests under way"),
    "rejected_requests": _counter("Requests that were refused, by the slug of /problems/<slug>", "reason"),
    "queue_depth": _gauge("Rows accepted and not answered yet", "model"),
    "queue_wait_seconds": _histogram("From when rows were accepted to when their forward pass began", "model"),
    "queue_refusals": _counter("Requests that a bound of the queue refused: rows or bytes", "model", "bound"),
    "queue_dropped": _counter("Entries that were never run: departed clients, passed deadlines", "model", "reason"),
    "batch_size": _histogram("Rows in a forward pass", "model", edges=ROWS_EDGES),
    "inference_duration_seconds": _histogram("Forward passes, by the program's method", "model", "operation"),
    "stage_duration_seconds": _histogram("decode: body to rows; encode: results to answer", "model", "stage"),
    "memory_shortages": _counter("Batches that memory did not suffice for, tried again in parts", "model"),
    "bodies_held_bytes": _gauge("Bytes of large bodies and answers that are held"),
    "bodies_refused": _counter(
        "Bodies refused: too much was held, too little time was left, or they came too slowly", "reason"
    ),
    "model_info": _gauge(
        "1 for each version that is loaded", *("model", "version", "family", "format", "digest"), merge=Merge.LARGEST
    ),
    "model_ready": _gauge("1 where a version of the name can answer, in every process", "model", merge=Merge.SMALLEST),
    "model_load_duration_seconds": _gauge("To verify, open and prove it", "model", "version", merge=Merge.LARGEST),
    "model_reloads": _counter("Versions loaded or refused, in each process", "model", "result"),
    "refused_bundles": _counter("Versions refused, by reason, in each process", "reason"),
    "selftest_max_abs_error": _gauge("Of its golden probe when it was loaded", "model", "version", merge=Merge.LARGEST),
    "anomaly_p_value": _histogram("P-values; uniform where nothing drifts", "model", "version", edges=P_EDGES),
    "anomalies": _counter("Rows judged anomalous", "model"),
    "ready": _gauge("1 where /readyz says so, in every process", merge=Merge.SMALLEST),
    "calibration_size": _gauge("Rows that its p-values were made from", "model", "version", merge=Merge.LARGEST),
    "workers": _gauge("Processes that serve"),
    "workers_ended": _counter("Processes that ended while the service went on; they are replaced"),
    "build_info": _gauge("1 for the version that runs", "version", merge=Merge.LARGEST),
}
