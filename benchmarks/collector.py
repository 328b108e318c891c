"""A collector of OpenTelemetry: a real HTTP server that reads OTLP as protobuf and keeps the spans."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

__all__ = ["PATIENCE", "SERVER", "Collected", "Collector", "collecting"]

PATIENCE = 30.0
SERVER = 2
"""The kind of a server's own span."""


class Collected(NamedTuple):
    """A span as it came. Times are in nanoseconds; `kind` and `status` are OTLP's numbers."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    start: int
    end: int
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """What came, and where it is to be sent. Nobody gets an answer while it is held."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = threading.Event()
        """Set once somebody has sent something, whether it was taken or not."""
        self._open = threading.Event()
        self._open.set()
        self._came = threading.Condition()
        self._bodies: list[bytes] = []

    def hold(self) -> None:
        """From here on nobody gets an answer."""
        self._open.clear()

    def release(self) -> None:
        """Everybody gets an answer."""
        self._open.set()

    def take(self, body: bytes) -> None:
        """It is kept as it is: reading it would take the time of what is measured."""
        self.asked.set()
        self._open.wait(PATIENCE)
        with self._came:
            self._bodies.append(body)
            self._came.notify_all()

    def taken(self) -> int:
        """How many bytes came since this was asked last; they are forgotten."""
        with self._came:
            size, self._bodies = sum(map(len, self._bodies)), []
        return size

    def spans(self, *, requests: int) -> list[Collected]:
        """All that came, in order of their beginnings, once so many requests are among them."""
        with self._came:
            found: list[Collected] = []

            def complete() -> bool:
                found[:] = itertools.chain(*map(_spans, self._bodies))
                return sum(span.kind == SERVER for span in found) >= requests

            assert self._came.wait_for(complete, PATIENCE), f"only {len(found)} spans came"
        assert sum(span.kind == SERVER for span in found) == requests
        return sorted(found, key=lambda span: span.start)


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            with contextlib.suppress(OSError):  # nobody waits any more
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.release()
            server.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[Collected]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Collected(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    _attributes(span.attributes),
                    _attributes(group.resource.attributes),
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
