"""A line in the log for each request: who asked for what is in it, what was asked and answered never is."""

import logging
import math
import random
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.types import Scope

from service.engine.timeline import Spent

__all__ = ["QUIET", "SERVED", "AccessLog", "Traced", "served_fields"]

SERVED = "served"
"""Where endpoints leave the bundle, the operation and the number of rows in the scope."""
TRACE = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
REFUSED_SECONDS, SLOW_APART_SECONDS = 1.0, 0.1
QUIET = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
logger = logging.getLogger("diabolo.access")


class Traced(NamedTuple):
    """The ids of a span."""

    trace_id: int
    span_id: int


class AccessLog:
    """Lines for this share of the requests, and for all that failed by the service's fault. So are refusals for want of
    room or time, and what took `slow_seconds`, but those come in thousands when there is time for nothing: of refusals
    one a second is a line, of slow ones ten. Probes come for ever and say nothing while they succeed."""

    def __init__(
        self,
        *,
        share: float,
        slow_seconds: float,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._slow_seconds = slow_seconds
        self._draw = draw
        self._clock = clock
        self._refused_at = self._slow_at = -math.inf

    def ended(
        self,
        scope: Scope,
        method: str,
        route: str,
        *,
        status: int,
        seconds: float,
        spent: Callable[[], Spent] = Spent,
        traced: Traced | None = None,
    ) -> None:
        """The request has its line, if it is to have one. It names the span that was made for the request, or where
        there is none the caller's."""
        level = logging.WARNING if self._matters(status, seconds) else logging.INFO
        if not logger.isEnabledFor(level):
            return
        if level == logging.WARNING or ((self._share >= 1 or self._draw() < self._share) and route not in QUIET):
            fields = _fields(scope, method, route, status, seconds)
            fields |= _trace_fields(scope, traced) | _spent_fields(spent())
            message = "%s %s %d in %.1f ms, request %s"
            arguments = (method, route, status, 1000 * seconds, fields.get("request_id"))
            # As `logger.log` does, but that searches the stack for its caller, a third of what a line costs.
            record = logger.makeRecord(logger.name, level, "", 0, message, arguments, None, extra=fields)
            logger.handle(record)

    def _matters(self, status: int, seconds: float) -> bool:
        if status == 500:
            return True
        if status > 500:
            if matters := (now := self._clock()) - self._refused_at >= REFUSED_SECONDS:
                self._refused_at = now
            return matters
        if seconds < self._slow_seconds:
            return False
        if matters := (now := self._clock()) - self._slow_at >= SLOW_APART_SECONDS:
            self._slow_at = now
        return matters


def _fields(scope: Scope, method: str, route: str, status: int, seconds: float) -> dict[str, Any]:
    fields = {
        "request_id": scope.get("request_id"),
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "duration_s": round(seconds, 6),
    }
    return fields | served_fields(scope)


def served_fields(scope: Scope) -> dict[str, Any]:
    """What is known of the request beside how it ended: the bundle, its operation, the refusal, the key's name."""
    fields: dict[str, Any] = {}
    if (served := scope.get(SERVED)) is not None:
        model, operation, rows = served
        fields |= {"model": model.manifest.name, "model_version": model.manifest.version}
        fields |= {"model_digest": model.digest, "operation": str(operation), "rows": rows}
    if (refused := scope.get("refused")) is not None:
        fields["refused"] = refused
    if (key := scope.get("client_key")) is not None:
        fields["client_key_id"] = key
    return fields


def _trace_fields(scope: Scope, traced: Traced | None) -> dict[str, Any]:
    if traced is not None:
        return {"trace_id": f"{traced.trace_id:032x}", "span_id": f"{traced.span_id:016x}"}
    for name, value in scope["headers"]:
        if name == b"traceparent" and (found := TRACE.fullmatch(value)):
            return {"trace_id": found[1].decode(), "span_id": found[2].decode()}
    return {}


def _spent_fields(spent: Spent) -> dict[str, Any]:
    if not spent.passes:
        return {}
    return {
        "queue_s": round(spent.queue_seconds, 6),
        "infer_s": round(spent.forward_seconds, 6),
        "batch_size": spent.batch_rows,
    }
