"""Reading a body, up to a limit and no further."""

from collections.abc import AsyncIterator

from service.api.codings import IDENTITY, content_coding, unpacked
from service.api.posted import Posted
from service.errors import BodyTooLarge

__all__ = ["LARGE_ANSWER_NUMBERS", "LARGE_BODY_BYTES", "LARGE_DRAWN_PIXELS", "LARGE_READ_PIXELS", "read_body"]

# Above these sizes a body is parsed, and an answer written, off the event loop: neighbours must not wait for them.
LARGE_BODY_BYTES = 256_000
LARGE_ANSWER_NUMBERS = 64_000
# The same for pictures, which are large by what they hold: drawing them takes longer than writing numbers.
LARGE_READ_PIXELS = 64_000
LARGE_DRAWN_PIXELS = 10_000


async def read_body(request: Posted, *, limit: int) -> bytes:
    """The whole body, decompressed, of at most `limit` bytes: neither as it came nor as it is may it have more.

    Raises BodyTooLarge, as soon as that is clear; UnsupportedMediaType for an unknown coding; MalformedBody where it is
    damaged or incomplete; ClientDisconnect when the client goes away.
    """
    coding = content_coding(request)
    announced = request.field(b"content-length") or ""
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    if coding != IDENTITY:
        return b"".join([piece async for piece in _up_to(limit, unpacked(_up_to(limit, request.pieces()), coding))])
    piece, more = await request.piece()
    if not more and len(piece) <= limit:
        return piece  # nearly always
    body, size = [piece], len(piece)
    while more and size <= limit:
        piece, more = await request.piece()
        body.append(piece)
        size += len(piece)
    if size > limit:
        raise _too_large(limit)
    return b"".join(body)


async def _up_to(limit: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, of at most `limit` bytes in all."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than the {limit} bytes that are read")
