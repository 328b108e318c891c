"""A client that asks by the clock and checks every answer. One task or none for a request, so that it costs the service
that shares its cores little."""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import httptools

from benchmarks.reliability.question import Question
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["Client", "Connection"]

# uvicorn ends a connection that was idle for 5 s; a request that crosses that end on its way would be lost by nobody's
# fault, so this client, as any should, ends it sooner.
IDLE_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
# Timers of the event loop have whole milliseconds. By so much a request may be late before it counts.
TICK_SECONDS = 0.001
MOST_AT_ONCE = 15_000


class Client:
    """Asks over kept-alive connections and opens another whenever all are taken: it never waits with a question until
    another is answered. What became of every question is in `tally`, the seconds counted from when it was due."""

    def __init__(self, port: int, tally: Tally, *, fresh_every: int = 0) -> None:
        """Every so many requests one has a connection of its own; 0: none has."""
        self.tally = tally
        self.busy: set[Connection] = set()
        self.latest = 0.0
        """How late, in seconds, the latest question was sent: this client's own fault."""
        self.opened = 0
        self.surprises = 0
        """Lost questions whose connection was not `doomed`."""
        self._port = port
        self._fresh_every = fresh_every
        self._asked = 0
        self._idle: deque[Connection] = deque()
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._watch = asyncio.create_task(self._give_up_on_silence())

    def ask(self, question: Question, due: float, done: Callable[[], None] | None = None) -> None:
        """The question is on its way. `due` is by the monotonic clock, which is finer than uvloop's; `done` is called
        once it has ended."""
        now = time.monotonic()
        self.latest = max(self.latest, now - due)
        self._asked += 1
        if len(self.busy) >= MOST_AT_ONCE:
            self.surprises += 1
            self.tally.add(due, 0, Verdict.LOST, f"not sent: {MOST_AT_ONCE} were under way")
            if done is not None:
                done()
            return
        fresh = self._fresh_every > 0 and self._asked % self._fresh_every == 0
        connection = None if fresh else self._reusable(now)
        if connection is None:
            connection = Connection(self)
            connection.last = fresh
            task = self._loop.create_task(connection.open(self._port))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        self.busy.add(connection)
        connection.ask(question, min(now, due + TICK_SECONDS), now, done)

    async def quiet(self, seconds: float = PATIENCE_SECONDS + 2) -> None:
        """Every question has ended. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self.busy:
                self._quiet.clear()
                await self._quiet.wait()

    def rest(self) -> None:
        """No connection is open that nobody uses."""
        while self._idle:
            self._idle.popleft().abort()

    async def close(self) -> None:
        """All connections are gone; what was under way is lost."""
        self._watch.cancel()
        with suppress(asyncio.CancelledError):
            await self._watch
        self.rest()
        for connection in [*self.busy]:
            connection.abort()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.sleep(0)  # in which the event loop closes what was aborted

    def ended(self, connection: "Connection", *, reusable: bool) -> None:
        """Called by a connection whose question has ended."""
        self.busy.discard(connection)
        if reusable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        if not self.busy:
            self._quiet.set()

    def _reusable(self, now: float) -> "Connection | None":
        """The connection that has been idle for longest, so that all are used in turn."""
        while self._idle:
            connection = self._idle.popleft()
            if now - connection.idle_since < IDLE_SECONDS and connection.alive():
                return connection
            connection.abort()
        return None

    async def _give_up_on_silence(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for connection in [one for one in self.busy if now - one.sent > PATIENCE_SECONDS]:
                connection.lose(f"no answer within {PATIENCE_SECONDS:g} s")
            while self._idle and now - self._idle[0].idle_since > IDLE_SECONDS:
                self._idle.popleft().abort()


class Connection(asyncio.Protocol):
    """A connection with at most one question under way. httptools calls its methods for the parts of the answer."""

    def __init__(self, client: Client) -> None:
        self.sent = self.idle_since = 0.0
        self.last = self.doomed = False
        self._client = client
        self._question: Question | None = None
        self._lowest = 0
        self._due = 0.0
        self._done: Callable[[], None] | None = None
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport: asyncio.Transport | None = None
        self._fields: dict[str, str] = {}
        self._body: list[bytes] = []

    @property
    def port(self) -> int:
        """The port at this end, 0 before there is one."""
        try:
            port: int = self._socket.getsockname()[1]
        except OSError:
            return 0
        return port

    async def open(self, port: int) -> None:
        """The question that it was given meanwhile is sent, or lost."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(self._socket, ("127.0.0.1", port))
            await loop.create_connection(lambda: self, sock=self._socket)
        except OSError as error:
            self._socket.close()
            self.lose(f"no connection: {error.strerror}")

    def ask(self, question: Question, due: float, now: float, done: Callable[[], None] | None) -> None:
        """The question is sent, as soon as the connection is there."""
        self._question, self._due, self.sent, self._done = question, due, now, done
        self._lowest = question.lowest
        if self._transport is not None:
            self._transport.write(question.request)

    def alive(self) -> bool:
        """False once the other end has closed: a look at the socket, which is quicker than the event loop's news."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def abort(self) -> None:
        """It is gone, and what was under way with it."""
        if self._transport is not None:
            self._transport.abort()
        self.lose("given up at the end")

    def lose(self, reason: str) -> None:
        """The question, if there is one, has no answer."""
        if self._question is not None:
            self._client.surprises += not self.doomed
            self._conclude(Verdict.LOST, reason + (", as foreseen" if self.doomed else ""), reusable=False)
            if self._transport is not None:
                self._transport.abort()

    def _conclude(self, verdict: Verdict, reason: str, *, reusable: bool) -> None:
        now = time.monotonic()
        self._client.tally.add(self._due, now - self._due, verdict, reason)
        self._question, done, self._done = None, self._done, None
        self._client.ended(self, reusable=reusable)
        if done is not None:
            done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's inherits from nothing
        self._client.opened += 1
        self._parser = httptools.HttpResponseParser(self)
        if self._question is not None:
            self._transport.write(self._question.request)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.lose(f"no HTTP: {error!r:.80}")

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        inside = " inside the answer" if self._fields else ""
        self.lose(f"the connection broke{inside} ({type(error).__name__ if error else 'closed'})")

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._fields, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._fields[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        if self._question is None:
            self._client.tally.add(self._due, 0, Verdict.WRONG, "an answer that nobody asked for")
            return
        status, fields, body = self._parser.get_status_code(), self._fields, b"".join(self._body)
        self._fields, self._body = {}, []
        verdict, reason = self._question.judge(status, fields, body, lowest=self._lowest)
        reusable = not self.last and self._parser.should_keep_alive()
        self._conclude(verdict, reason, reusable=reusable)
        if not reusable and self._transport is not None:
            self._transport.close()
