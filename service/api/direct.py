"""Routes whose endpoints take the request as it is, and the short way to them."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError

__all__ = ["DirectRoute", "ShortWay"]


class DirectRoute(APIRoute):
    """A route of endpoints `(request, **path_params) -> Response`, which FastAPI documents like any other but does not
    solve dependencies for: there are none, and looking for them costs as much as a small forward pass."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, given the parts of the path by name."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(request, **request.path_params)
            return response

        return handle


class _Shape(NamedTuple):
    """Paths of so many segments: which of them are parameters, and by the others what answers."""

    parameters: dict[int, str]
    endpoints: dict[tuple[str, ...], Callable[..., Coroutine[Any, Any, Response]]]


class ShortWay:
    """ASGI middleware: a `POST` to a direct route goes there at once, past the search through all routes and what
    FastAPI and Starlette wrap around each, which together take longer than a small forward pass. Everything else, and
    whatever is not exactly such a path, goes the usual way."""

    def __init__(
        self, app: ASGIApp, *, routes: Iterable[DirectRoute], refuse: Callable[[Request, ServiceError], Response]
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._shapes: dict[int, _Shape] = {}
        for route in routes:
            segments = route.path.split("/")
            parameters = {place: name[1:-1] for place, name in enumerate(segments) if name.startswith("{")}
            shape = self._shapes.setdefault(len(segments), _Shape(parameters, {}))
            assert shape.parameters == parameters, "direct routes of one length have their parameters in one place"
            shape.endpoints[_fixed(segments, shape)] = route.endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or calls the app."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        segments = scope["path"].split("/")
        shape = self._shapes.get(len(segments))
        endpoint = shape.endpoints.get(_fixed(segments, shape)) if shape else None
        values = {name: segments[place] for place, name in shape.parameters.items()} if shape else {}
        if endpoint is None or not all(values.values()):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request, **values)
        except ServiceError as error:
            response = self._refuse(request, error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)


def _fixed(segments: list[str], shape: _Shape) -> tuple[str, ...]:
    return tuple(segment for place, segment in enumerate(segments) if place not in shape.parameters)
