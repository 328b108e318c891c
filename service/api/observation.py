"""How each request ended, for those who look after the service."""

from time import monotonic
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from service.api.access_log import AccessLog
from service.engine.timeline import TIMELINE, Timeline
from service.monitoring.traffic import GONE, Traffic

if TYPE_CHECKING:
    from service.api.spans import Spans

__all__ = ["Observer"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "none"


class Observer:
    """Counts the requests of the process, if that is wanted, and has them logged. Whoever answers leaves the status in
    the scope, and the route where there is one."""

    def __init__(self, traffic: Traffic | None, log: AccessLog) -> None:
        self._traffic = traffic
        self._log = log
        self._spans: Spans | None = None

    def trace(self, spans: "Spans | None") -> None:
        """From here on requests have these spans."""
        self._spans = spans

    def begins(self) -> Timeline:
        """A request has come, whose timeline it is from here on."""
        if self._traffic is not None:
            self._traffic.in_flight += 1
        timeline = Timeline()
        TIMELINE.set(timeline)
        return timeline

    def ends(self, scope: Scope, timeline: Timeline) -> None:
        """It has been answered, or nobody waits for it any more."""
        seconds = monotonic() - timeline.start
        route, status = scope.get("route"), scope.get("status", GONE)
        path = UNKNOWN if route is None else route.path
        method = scope["method"] if scope["method"] in METHODS else UNKNOWN
        traced = None
        if self._spans is not None:
            traced = self._spans.ended(
                scope, timeline, method=scope["method"] if method != UNKNOWN else None, route=route and path
            )
        if self._traffic is not None:
            self._traffic.ended(method, path, status=status, seconds=seconds, refused=scope.get("refused"))
        self._log.ended(scope, method, path, status=status, seconds=seconds, spent=timeline.spent, traced=traced)

    def noting(self, scope: Scope, send: Send) -> Send:
        """`send`, which leaves the status in the scope."""

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["status"] = message["status"]
            await send(message)

        return send_noted
