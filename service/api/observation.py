"""How each request ended, for those who look after the service."""

from time import monotonic

from starlette.types import Message, Scope, Send

from service.api.access_log import AccessLog
from service.engine.timeline import TIMELINE, Timeline
from service.monitoring.traffic import GONE, Traffic

__all__ = ["Observer"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "none"


class Observer:
    """Counts the requests of the process, if that is wanted, and has them logged. Whoever answers leaves the status in
    the scope, and the route where there is one."""

    def __init__(self, traffic: Traffic | None, log: AccessLog) -> None:
        self._traffic = traffic
        self._log = log

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
        if self._traffic is not None:
            self._traffic.ended(method, path, status=status, seconds=seconds, refused=scope.get("refused"))
        self._log.ended(scope, method, path, status=status, seconds=seconds, spent=timeline.spent)

    def noting(self, scope: Scope, send: Send) -> Send:
        """`send`, which leaves the status in the scope."""

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["status"] = message["status"]
            await send(message)

        return send_noted
