"""A connection: uvicorn's protocol, and what that lacks against clients that are slow, endless or gone."""

import asyncio
import contextlib
import math
import secrets
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.departure import CONNECTION
from service.api.problems import MEDIA_TYPE, problem_document
from service.errors import HeadTooLarge, MalformedRequest, RequestTooSlow, ServiceError

__all__ = ["Connection"]

MAX_HEAD_BYTES = 2**16
LINE_BYTES = 3  # of a field's line, beside its name and its value: a colon and the line's end
MOST_WAITING = 100
LINGER_SECONDS = 0.5
VANISHED_SECONDS = 60
BYTES_ACKED = 120  # where Linux has tcpi_bytes_acked in tcp_info


class TooManyWaiting(Exception):
    """A client has sent more requests than may wait for the one in front of them. uvicorn goes on to read while that
    reads its own body, so they would be held without a bound: they are answered, and nothing after them is read."""


class Connection(HttpToolsProtocol):
    """A request whose client has gone is cancelled, if it asks for that. `attend`, called now and then, ends what waits
    for its client for too long: a head is answered with 408, whoever reads a body has a look at the time, and a client
    that takes nothing of its answer is cut off."""

    def __init__(
        self,
        *arguments: Any,
        lost: Callable[[], None] | None = None,
        refused: Counter[str] | None = None,
        **named: Any,
    ) -> None:
        """`refused` counts what is refused before there is a request, by slug."""
        super().__init__(*arguments, **named)
        self.app_state = {**self.app_state, CONNECTION: self}
        self.gone = False
        self._ends = False
        self.under_way: asyncio.Task[Any] | None = None
        self._before: deque[RequestResponseCycle] = deque()
        self._lost = lost
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._head: object = None
        self._head_bytes = 0
        self._piece_bytes = self._since_head_bytes = 0
        self._fault: ServiceError | None = None
        self._waits: object = None
        self._waits_since = 0.0
        self._taken: int | None = None
        self._taken_since = 0.0
        self._untaken: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's too
        """Called by the event loop. That a client has vanished without a word is noticed in minutes."""
        super().connection_made(transport)
        end = transport.get_extra_info("socket")
        if end is not None and hasattr(socket, "TCP_KEEPIDLE"):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, VANISHED_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        rest: bytes | memoryview = data
        while len(rest) > MAX_HEAD_BYTES and not self._is_reading_a_body:
            # Of a head that is too large no more is parsed than has to be: its fields cost more than a body's bytes.
            rest = memoryview(rest)
            self._feed(rest[:MAX_HEAD_BYTES])
            if self.transport.is_closing():
                return
            rest = rest[MAX_HEAD_BYTES:]
        self._feed(rest)

    def _feed(self, data: bytes | memoryview) -> None:
        self._piece_bytes = len(data)
        self._since_head_bytes += self._piece_bytes
        HttpToolsProtocol.data_received(self, data)  # type: ignore[arg-type]  # its parser takes any buffer
        self._bound_head(self._piece_bytes)
        if self._ends and self.cycle is not None and self.cycle.scope is self.scope:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Called by the parser. Bodies are bounded by those who read them."""
        HttpToolsProtocol.on_body(self, body)
        self._head = None

    def on_headers_complete(self) -> None:
        """Called by the parser. Requests may come before the one in front of them is answered."""
        if len(self.pipeline) >= MOST_WAITING:
            raise TooManyWaiting
        # It is hardly ever measured: what came since the head before has no room for one that is too large.
        if self._since_head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._fault = self._head_too_large()
            raise self._fault
        self._since_head_bytes = self._piece_bytes  # the next may have begun in it
        before = self.cycle
        super().on_headers_complete()
        if before is not None and not before.response_complete:
            while self._before and self._before[0].response_complete:
                self._before.popleft()
            self._before.append(before)
        self.headers = []  # what comes after the body is not the request's, and nobody reads it

    def when_taken(self, then: Callable[[], None]) -> None:
        """`then` is called once no more than a little is left of what has been answered so far: at once, or when the
        client has taken that, or when it has gone."""
        if self.gone or not self.flow.write_paused:
            then()
        else:
            self._untaken.append(then)

    def resume_writing(self) -> None:
        """Called by the event loop."""
        super().resume_writing()
        untaken, self._untaken = self._untaken, []
        for then in untaken:
            then()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's text, which says less
        """Called by uvicorn for bytes that are no HTTP, or more of it than is read."""
        whole = next((cycle for cycle in (self.cycle, *reversed(self._before)) if cycle and not cycle.more_body), None)
        if whole is not None and not whole.response_complete:
            whole.keep_alive = False  # what has come whole is answered; nothing after it is begun
        elif self._is_answering and self.cycle.response_started:
            self.transport.close()  # an answer in the midst of another is none
        else:
            self._refuse(self._fault or MalformedRequest("this is no request of HTTP/1.1"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        for cycle in self._before:  # uvicorn tells the newest alone
            cycle.disconnected = True
            cycle.message_event.set()
        self._before.clear()
        self.gone = True
        self.resume_writing()
        if self.under_way is not None:
            self.under_way.cancel()
        # The request knows its connection: a ring, in which the bundle that answered would stay until it is found.
        self.cycle = self.scope = None  # type: ignore[assignment]  # as before the first request
        self.app_state = {}
        self._head = self._waits = None
        if self._lost is not None:
            self._lost()

    def shutdown(self) -> None:
        """Called by the server at its end: what is under way is answered, and so is a request that is on its way
        already, which nobody would answer if an idle connection ended at once."""
        self._ends = True
        if self._is_answering:
            super().shutdown()
        else:
            self.loop.call_later(LINGER_SECONDS, self._leave)

    def _leave(self) -> None:
        if not self._is_answering:
            self.transport.close()
            if not self.transport.get_write_buffer_size():
                # Over TLS it would be for the client to agree, which may have forgotten this connection.
                self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def attend(self, now: float, *, seconds: float, send_seconds: float = math.inf) -> None:
        """What waits for its client at `now` is reminded of the time, or ended if it has waited for `seconds`; an
        answer of which nothing was taken for `send_seconds` is given up."""
        if self._is_stuck(now, send_seconds):
            self.transport.abort()
            return
        waits = self if self.scope is None else self.scope
        if self._is_answering:
            self._waits = None
            if self.cycle.more_body:
                self.cycle.message_event.set()  # whoever reads it gets an empty piece
        elif self.timeout_keep_alive_task is not None or self.transport.is_closing():
            self._waits = None  # uvicorn ends what is idle after an answer
        elif self._waits is not waits:
            self._waits, self._waits_since = waits, now
        elif now - self._waits_since >= seconds:
            self._end(seconds)

    def _is_stuck(self, now: float, seconds: float) -> bool:
        """Nothing of what there is for the client has been taken for so long, as far as the system tells."""
        taken = self._bytes_taken() if self.transport.get_write_buffer_size() else None
        if taken != self._taken:
            self._taken, self._taken_since = taken, now
        return taken is not None and now - self._taken_since >= seconds

    def _bytes_taken(self) -> int | None:
        end = self.transport.get_extra_info("socket")
        with contextlib.suppress(AttributeError, OSError, struct.error):  # no socket, or another system
            information: bytes = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
            (taken,) = struct.unpack_from("=Q", information, BYTES_ACKED)
            return int(taken)
        return None

    @property
    def _has_begun_a_head(self) -> bool:
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_reading_a_body(self) -> bool:
        return self._is_answering and self.cycle.more_body and not self._has_begun_a_head

    def _head_size(self) -> int:
        """In bytes, of the head that is complete now: its path and its lines, without spaces around their values."""
        return len(self.url) + sum(len(name) + len(value) + LINE_BYTES for name, value in self.headers)

    def _head_too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"the request's head has more than the {MAX_HEAD_BYTES} bytes that are read")

    def _bound_head(self, size: int) -> None:
        """So many bytes belong to the head that has begun, or to what is no body after it; or to what went before, if
        that has just begun."""
        if self._head is not self.scope:
            self._head, self._head_bytes = self.scope, 0
            return
        self._head_bytes += size
        if self._head_bytes < MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if not self._has_begun_a_head and self.cycle.response_started:
            self.transport.close()
        elif self._has_begun_a_head and self._is_answering:
            self.flow.pause_reading()  # until that is done
        else:
            self._refuse(self._head_too_large())

    def _end(self, seconds: float) -> None:
        """Nobody is there who knows what was begun: a request whose head is not complete, or the rest of a body whose
        answer did not need it, or nothing at all."""
        if self._has_begun_a_head:
            self._refuse(RequestTooSlow(f"the request's head did not come within {seconds:g} s"))
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        content = orjson.dumps(problem_document(error, instance="/", request_id=secrets.token_hex(16)))
        fields = {"content-type": MEDIA_TYPE, "content-length": str(len(content)), "connection": "close"}
        head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        head += [f"{name}: {value}" for name, value in fields.items()]
        self._refused[error.slug] += 1
        self.transport.write("\r\n".join([*head, "", ""]).encode() + content)
        self.transport.close()
