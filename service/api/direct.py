"""Routes whose endpoints take the request as it is, and the short way to them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.auth import Guard
from service.api.bodies import Bodies
from service.api.compression import packing
from service.api.deadlines import FIELD as TIMEOUT
from service.api.deadlines import timeout_of, within
from service.api.departure import connection_of
from service.api.observation import Observer
from service.api.posted import Posted
from service.api.problems import refusal, refusal_of_bug
from service.api.rendered import Rendered
from service.api.request_id import FIELD, identify
from service.errors import ServiceError
from service.keys import KeyScope

__all__ = ["DirectApp", "DirectRoute"]

Endpoint = Callable[..., Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route of endpoints `(posted, **path_params) -> Response`, which FastAPI documents like any other but does not
    solve dependencies for: there are none, and looking for them costs as much as a small forward pass."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, given the parts of the path by name."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            app: DirectApp = request.app
            posted = Posted.of(request)
            app.admit(posted)
            try:
                return await app.respond(endpoint, posted, request.path_params)
            finally:
                app.release(posted)

        return handle


class _Target(NamedTuple):
    """What answers at a path, and the path's parameters."""

    route: DirectRoute
    values: dict[str, str]


class _Shape(NamedTuple):
    """Paths of so many segments: which of them are parameters, and by the others what answers."""

    parameters: dict[int, str]
    routes: dict[tuple[str, ...], DirectRoute]

    def fixed(self, segments: list[str]) -> tuple[str, ...]:
        """The segments that are no parameters."""
        return tuple(segment for place, segment in enumerate(segments) if place not in self.parameters)


class DirectApp(FastAPI):
    """An app with a short way: a `POST` to a route that was given to `shorten` goes there at once, past all middleware,
    the search through all routes and what FastAPI wraps around each, which together take longer than a small forward
    pass. What those would do for the answer is done here: its request id, its compression, its problem documents.
    Everything else, and whatever is not exactly such a path, goes the usual way."""

    has_cors = False
    """True where what pages of other origins ask goes the usual way, whose middleware answers them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._observer: Observer | None = None
        self.shorten((), compress_bytes=0)

    def observe(self, observer: Observer) -> None:
        """From here on the observer sees every request."""
        self._observer = observer

    def shorten(
        self,
        routes: Iterable[DirectRoute],
        *,
        compress_bytes: int,
        bodies: Bodies | None = None,
        timeout_ms: int = 0,
        guard: Guard | None = None,
    ) -> None:
        """From here on there is a short way to these routes, whose answers in JSON of `compress_bytes` or more are
        compressed as the client likes best; 0: none. Requests that give themselves no time have `timeout_ms`; 0: no
        end. What `bodies` hold for them is released when their answers have been taken. Where `guard` has keys, direct
        routes need one that may infer."""
        self._guard = guard if guard is not None and guard.has_keys else None
        self._bodies = bodies
        self._timeout_ms = timeout_ms
        self._compress_bytes = compress_bytes
        self._shapes: dict[int, _Shape] = {}
        for route in routes:
            segments = route.path.split("/")
            parameters = {place: name[1:-1] for place, name in enumerate(segments) if name.startswith("{")}
            shape = self._shapes.setdefault(len(segments), _Shape(parameters, {}))
            assert shape.parameters == parameters, "direct routes of one length have their parameters in one place"
            shape.routes[shape.fixed(segments)] = route
        self._target = lru_cache(maxsize=1024)(self._find)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, and the observer, if any, has seen how that ended."""
        observer = self._observer
        if observer is None or scope["type"] != "http":
            await self._pass(scope, receive, send)
            return
        timeline = observer.begins()
        try:
            await self._pass(scope, receive, send)
        finally:
            observer.ends(scope, timeline)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; where there is a short way, only as long as there is a client."""
        direct = scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path")
        target = self._target(scope["path"]) if direct else None
        if target is None:
            await self._answer_usually(scope, receive, send)
            return
        if self.has_cors and any(name == b"origin" for name, _ in scope["headers"]):
            answer = self._answer_usually(scope, receive, send)
        else:
            scope["route"] = target.route
            answer = self._answer(target, scope, receive, send)
        connection = connection_of(scope)
        if connection is None:
            await answer
            return
        connection.under_way = task = asyncio.current_task()
        try:
            await answer
        except asyncio.CancelledError:
            if not connection.gone:
                raise
        finally:
            if connection.under_way is task:
                connection.under_way = None

    async def _answer_usually(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = self._observer.noting(scope, send) if self._observer is not None else send
        await super().__call__(scope, receive, send)

    def _find(self, path: str) -> _Target | None:
        segments = path.split("/")
        shape = self._shapes.get(len(segments))
        route = shape.routes.get(shape.fixed(segments)) if shape else None
        if shape is None or route is None:
            return None
        values = {name: segments[place] for place, name in shape.parameters.items()}
        return _Target(route, values) if all(values.values()) else None

    def admit(self, request: Posted) -> None:
        """Returns where direct routes may be asked so. Raises what the guard raises."""
        if self._guard is not None:
            self._guard.admit(request.scope, request.fields, KeyScope.INFER)

    async def respond(self, endpoint: Endpoint, request: Posted, values: Mapping[str, Any]) -> Response:
        """What the endpoint answers, in the time that the request has. Raises what it raises; DeadlineExceeded at the
        end of that time, MalformedField where it cannot be read."""
        if milliseconds := timeout_of(request, otherwise=self._timeout_ms):
            return await within(milliseconds, endpoint(request, **values))
        return await endpoint(request, **values)

    def release(self, request: Posted) -> None:
        """Nothing is held for the request, as soon as its client has taken what it was answered."""
        if not request.held_bytes or self._bodies is None:
            return
        connection = connection_of(request.scope)
        if connection is None:
            self._bodies.release(request)
        else:
            connection.when_taken(partial(self._bodies.release, request))

    async def _answer(self, target: _Target, scope: Scope, receive: Receive, send: Send) -> None:
        request = Posted(scope, receive)
        identity = identify(scope, request.fields.get(FIELD))
        try:
            response = await self._response(target, request)
            if response is None:
                return
            response.raw_headers.append((FIELD, identity))
            scope["status"] = response.status_code
            # Short answers are not compressed, and say themselves what they depend on.
            if self._compress_bytes and not (
                isinstance(response, Rendered) and len(response.body) < self._compress_bytes
            ):
                send = packing(send, request.field(b"accept-encoding"), min_bytes=self._compress_bytes)
            await response(scope, receive, send)
        finally:
            self.release(request)

    async def _response(self, target: _Target, request: Posted) -> Response | None:
        """What is answered, whatever happens; None where there is no client any more."""
        try:
            if self._guard is not None:
                self.admit(request)
            if self._timeout_ms or TIMEOUT in request.fields:
                return await self.respond(target.route.endpoint, request, target.values)
            response: Response = await target.route.endpoint(request, **target.values)
            return response
        except ServiceError as error:
            return refusal(request.scope, error)
        except ClientDisconnect:
            return None
        except Exception as error:
            return refusal_of_bug(request.scope, error)
