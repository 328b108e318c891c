"""How each request ended, for those who look after the service."""

from time import perf_counter

from starlette.types import Message, Scope, Send

from service.monitoring.traffic import GONE, Traffic

__all__ = ["Observer"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN = "none"


class Observer:
    """Counts the requests of the process. Whoever answers leaves the status in the scope, and the route where there is
    one."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def begins(self) -> float:
        """A request has come; the time, for `ends`."""
        self._traffic.in_flight += 1
        return perf_counter()

    def ends(self, scope: Scope, began: float) -> None:
        """It has been answered, or nobody waits for it any more."""
        route = scope.get("route")
        method = scope["method"]
        self._traffic.ended(
            method if method in METHODS else UNKNOWN,
            UNKNOWN if route is None else route.path,
            status=scope.get("status", GONE),
            seconds=perf_counter() - began,
            refused=scope.get("refused"),
        )

    def noting(self, scope: Scope, send: Send) -> Send:
        """`send`, which leaves the status in the scope."""

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["status"] = message["status"]
            await send(message)

        return send_noted
