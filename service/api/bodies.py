"""The bodies of requests: read up to a limit of each and of all together, and not for ever.

What is held of all bodies bounds the memory of a process whatever its clients send: reading, parsing and answering take
a small multiple of it. Small bodies do not count, so those who send much do not keep them out.
"""

import time
from collections.abc import AsyncIterator, Callable

from service.api.codings import IDENTITY, content_coding, unpacked
from service.api.posted import Posted
from service.errors import BodyTooLarge, Overloaded, RequestTooSlow

__all__ = ["Bodies"]

SMALL_BYTES = 2**16  # as much as a connection may hold of any body
PACE = 2**14  # bytes per second


class Bodies:
    """All bodies of one process, each of at most `max_bytes`. They are held until their requests are answered: of those
    over 64 KiB at most `max_held_bytes` at a time.

    A body may take `seconds` to come, and one more for every 16 KiB. It is looked at whenever some of it comes, and
    where the server passes on empty pieces meanwhile.
    """

    def __init__(
        self, *, max_bytes: int, max_held_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._small_bytes = min(SMALL_BYTES, max_bytes)
        self._seconds = seconds
        self._clock = clock
        self.held_bytes = 0
        """Of all bodies that are not small."""
        self.refused = self.too_slow = 0
        """Requests that were refused because too much was held, and those whose bodies did not come in time."""

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

    def release(self, request: Posted) -> None:
        """What was held of the request's body is not held any more."""
        self.held_bytes -= request.held_bytes
        request.held_bytes = 0

    def _expect(self, size: int) -> None:
        """Before any of it is read."""
        if size > self._max_bytes:
            raise self._too_large()
        if size > SMALL_BYTES and self.held_bytes and self.held_bytes + size > self._max_held_bytes:
            raise self._overloaded()

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
            f"{self.held_bytes} bytes of large bodies are held and at most {self._max_held_bytes} may", retry_after=1
        )
