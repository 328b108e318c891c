"""The spans of a request: the server's own, by the semantic conventions for HTTP, and one for each stage."""

import os
import re
from collections.abc import Mapping, Sequence
from time import monotonic_ns, time_ns
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, set_span_in_context
from starlette.types import Scope

from service.api.access_log import QUIET, Traced, served_fields
from service.engine.timeline import Stage, Timeline
from service.monitoring.tracing import Tracing

__all__ = ["Spans"]

PREFIX = "diabolo."
OTHER = "_OTHER"
Fields = Sequence[tuple[bytes, bytes]]


class _FieldsOf(Getter[Fields]):
    """A request's fields, for propagators."""

    def get(self, carrier: Fields, key: str) -> list[str] | None:
        """The values of that name."""
        name = key.lower().encode("latin-1")
        return [value.decode("latin-1") for given, value in carrier if given == name] or None

    def keys(self, carrier: Fields) -> list[str]:
        """All names."""
        return [name.decode("latin-1") for name, _ in carrier]


class Spans:
    """Makes them when a request has ended, of what it has left in its timeline: while it is under way nothing is done
    for them. Requests of OTEL_PYTHON_EXCLUDED_URLS, by default probes and scrapes, have none."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer, self._sampler, self._ids = tracing.tracer, tracing.sampler, tracing.ids
        self._propagator = propagate.get_global_textmap()
        self._propagated = frozenset(field.encode() for field in self._propagator.fields)
        excluded = os.environ.get("OTEL_PYTHON_EXCLUDED_URLS", "").strip()
        self._excluded = re.compile("|".join(map(str.strip, excluded.split(",")))) if excluded else None

    def ended(self, scope: Scope, timeline: Timeline, *, method: str | None, route: str | None) -> Traced | None:
        """The request has ended now, and its spans are on their way where it is sampled: by the caller's word, if there
        is one. `method` is None for one that is not known. None where there are no spans."""
        if self._is_excluded(scope, route):
            return None
        attributes: dict[str, Any] = {"http.request.method": method or OTHER, "url.scheme": scope["scheme"]}
        if route is not None:
            attributes["http.route"] = route
        name = f"{method or 'HTTP'} {route}" if route is not None else method or "HTTP"
        context = self._caller(scope["headers"])
        caller = get_current_span(context).get_span_context()
        trace_id = caller.trace_id if caller.is_valid else self._ids.draw()
        sampling = self._sampler.should_sample(context, trace_id, name, SpanKind.SERVER, attributes, ())
        if sampling.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        ends = time_ns()
        shift = ends - monotonic_ns()
        span = self._tracer.start_span(
            name,
            context=context,
            kind=SpanKind.SERVER,
            attributes={**attributes, **sampling.attributes},
            start_time=_nanoseconds(timeline.start) + shift,
        )
        _describe(span, scope, timeline)
        below = set_span_in_context(span, Context())
        for stage in timeline.stages:
            if stage.start is not None:
                self._add(stage, below, shift=shift, ends=ends, refused=scope.get("refused"))
        span.end(ends)
        return Traced(trace_id, span.get_span_context().span_id)

    def _is_excluded(self, scope: Scope, route: str | None) -> bool:
        if self._excluded is None:
            return route in QUIET
        host, port = scope.get("server") or ("", None)
        return self._excluded.search(f"{scope['scheme']}://{host}:{port}{scope['path']}") is not None

    def _caller(self, fields: Fields) -> Context:
        """The context that the request brings along."""
        if any(name in self._propagated for name, _ in fields):
            return self._propagator.extract(fields, Context(), _FieldsOf())
        return Context()

    def _add(self, stage: Stage, context: Context, *, shift: int, ends: int, refused: str | None) -> None:
        attributes: dict[str, Any] = {}
        if stage.name == "forward":
            attributes = {f"{PREFIX}batch_size": stage.rows, f"{PREFIX}method": str(stage.method)}
        started = _nanoseconds(stage.start or 0.0) + shift
        span = self._tracer.start_span(stage.name, context=context, attributes=attributes, start_time=started)
        if stage.failed or stage.end is None:  # nothing goes on once its request has ended: that was its end
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", refused or "cancelled")
        span.end(ends if stage.end is None else _nanoseconds(stage.end) + shift)


def _describe(span: Span, scope: Scope, timeline: Timeline) -> None:
    """What is known at the end. The path is told only of what has succeeded: else a client may have made it up."""
    status, refused = scope.get("status"), scope.get("refused")
    attributes: dict[str, Any] = {"network.protocol.version": scope["http_version"]}
    if (server := scope.get("server")) is not None:
        attributes |= {"server.address": server[0], "server.port": server[1]}
    if status is None:
        attributes["error.type"] = refused or "client-gone"
    else:
        attributes["http.response.status_code"] = status
        if status >= 500:
            attributes["error.type"] = refused or str(status)
            span.set_status(StatusCode.ERROR)
        elif status < 400:
            attributes["url.path"] = scope["path"]
    own: Mapping[str, Any] = {"request_id": scope.get("request_id"), **served_fields(scope)}
    if passes := timeline.spent().passes:
        own = {**own, "passes": passes}
    attributes |= {PREFIX + name: value for name, value in own.items()}
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
