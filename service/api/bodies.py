"""The bodies of requests: read up to a limit of each and of all together, and not for ever.

What is held of all bodies, and of the answers until clients have taken them, bounds the memory of a process whatever
its clients do: reading, parsing and answering take a small multiple of it. What is small does not count, so those who
send or ask for much do not keep it out.
"""

import math
import time
from collections.abc import AsyncIterator, Callable

from service.api.codings import IDENTITY, content_coding, unpacked
from service.api.limits import LARGE_BODY_BYTES
from service.api.posted import Posted
from service.engine.deadline import DEADLINE
from service.errors import BodyTooLarge, Overloaded, RequestTooSlow

__all__ = ["Bodies"]

SMALL_BYTES = 2**16  # as much as a connection may hold of any body
BYTES_PER_NUMBER = 8  # of an answer: as much as most take in JSON
PACE = 2**14  # bytes per second
READING_SHARE = 0.5  # of the time that a request has, the most that its body may wait to be read


class Bodies:
    """All bodies of one process, each of at most `max_bytes`. They are held until their requests are answered, and so
    are the answers until they are taken: of those over 64 KiB at most `max_held_bytes` at a time. Who is alone has all
    that is needed, and whose body is held is not refused for the answer's sake.

    A body may take `seconds` to come, and one more for every 16 KiB. It is looked at whenever some of it comes, and
    where the server passes on empty pieces meanwhile.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_held_bytes: int,
        seconds: float,
        expected_seconds: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`expected_seconds` says how long it will be until the large bodies that have come are read."""
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._small_bytes = min(SMALL_BYTES, max_bytes)
        self._seconds = seconds
        self._expected_seconds = expected_seconds
        self._clock = clock
        self.held_bytes = 0
        """Of all bodies and answers that are not small."""
        self.refused = self.late = self.too_slow = 0
        """Requests that were refused because too much was held, or because bodies are read so late that there would be
        no time left, and those whose bodies did not come in time."""

    async def read(self, request: Posted) -> bytes:
        """The whole body, decompressed: neither as it came nor as it is may it be too large. It is held until
        `release`.

        Raises BodyTooLarge, Overloaded or RequestTooSlow, as soon as that is clear; UnsupportedMediaType for an unknown
        coding; MalformedBody where it is damaged or incomplete; ClientDisconnect when the client goes away.
        """
        coding = content_coding(request)
        announced = request.field(b"content-length") or ""
        if announced.isdecimal():
            size = int(announced) if len(announced) < 19 else self._max_bytes + 1
            if size > self._small_bytes:
                self._expect(size)
        first, more = await request.piece()
        if not more and len(first) <= self._small_bytes and coding == IDENTITY:
            return first  # nearly always
        pieces = self._limited(self._in_time(request, first, more=more))
        if coding != IDENTITY:
            pieces = self._limited(unpacked(pieces, coding))
        return b"".join([piece async for piece in self._held(pieces, request)])

    def hold_answer(self, request: Posted, numbers: int) -> None:
        """An answer of so many numbers is held until `release`. Raises Overloaded if it is too much for a request that
        has sent little."""
        size = BYTES_PER_NUMBER * numbers
        if size <= SMALL_BYTES:
            return
        if not request.held_bytes and self.held_bytes and self.held_bytes + size > self._max_held_bytes:
            raise self._overloaded()
        self.held_bytes += size
        request.held_bytes += size

    def release(self, request: Posted) -> None:
        """What was held for the request is not held any more."""
        self.held_bytes -= request.held_bytes
        request.held_bytes = 0

    def _expect(self, size: int) -> None:
        """Before any of it is read."""
        if size > self._max_bytes:
            raise self._too_large()
        if size > SMALL_BYTES and self.held_bytes and self.held_bytes + size > self._max_held_bytes:
            raise self._overloaded()
        deadline = DEADLINE.get() if size > LARGE_BODY_BYTES else None
        if deadline is not None:
            wait, left = self._expected_seconds(), deadline - self._clock()
            if wait > READING_SHARE * left:
                self.late += 1
                detail = f"large bodies are read {wait:.1f} s after they have come, and there are {left:.1f} s left"
                raise Overloaded(detail, retry_after=math.ceil(wait))

    async def _in_time(self, request: Posted, piece: bytes, *, more: bool) -> AsyncIterator[bytes]:
        """This piece and those after it."""
        began, size = self._clock(), len(piece)
        if piece:
            yield piece
        while more:
            piece, more = await request.piece()
            size += len(piece)
            if more and self._clock() - began > self._seconds + size / PACE:
                self.too_slow += 1
                # The connection would go on to take the rest of it.
                detail = f"the body did not come in time: {size} bytes of it in {self._clock() - began:.0f} s"
                raise RequestTooSlow(detail, headers={"Connection": "close"})
            if piece:
                yield piece

    async def _limited(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large()
            yield piece

    async def _held(self, pieces: AsyncIterator[bytes], request: Posted) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            growth = max(0, size - SMALL_BYTES) - request.held_bytes
            if self.held_bytes > request.held_bytes and self.held_bytes + growth > self._max_held_bytes:
                raise self._overloaded()
            self.held_bytes += growth
            request.held_bytes += growth
            yield piece

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body has more than the {self._max_bytes} bytes that are read")

    def _overloaded(self) -> Overloaded:
        self.refused += 1
        return Overloaded(
            f"{self.held_bytes} bytes of large bodies and answers are held and at most {self._max_held_bytes} may",
            retry_after=1,
        )
