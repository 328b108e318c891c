"""Reading a body, up to a limit and no further."""

from collections.abc import AsyncIterator

from fastapi import Request

from service.api.codings import IDENTITY, content_coding, unpacked
from service.errors import BodyTooLarge

__all__ = ["LARGE_ANSWER_NUMBERS", "LARGE_BODY_BYTES", "LARGE_DRAWN_PIXELS", "LARGE_READ_PIXELS", "read_body"]

# Above these sizes a body is parsed, and an answer written, off the event loop: neighbours must not wait for them.
LARGE_BODY_BYTES = 256_000
LARGE_ANSWER_NUMBERS = 64_000
# The same for pictures, which are large by what they hold: drawing them takes longer than writing numbers.
LARGE_READ_PIXELS = 64_000
LARGE_DRAWN_PIXELS = 10_000


async def read_body(request: Request, *, limit: int) -> bytes:
    """The whole body, decompressed, of at most `limit` bytes: neither as it came nor as it is may it have more.

    Raises UnsupportedMediaType for a coding that is not known; BodyTooLarge before anything is read where
    `Content-Length` already says so, else as soon as the limit is passed; MalformedBody where a compressed body is
    damaged or incomplete; ClientDisconnect when the client goes away.
    """
    coding = content_coding(request)
    announced = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"the body has more than the {limit} bytes that are read")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise too_large
    pieces = _up_to(limit, request.stream(), too_large)
    if coding != IDENTITY:
        pieces = _up_to(limit, unpacked(pieces, coding), too_large)
    body = bytearray()
    async for piece in pieces:
        body += piece
    return bytes(body)


async def _up_to(limit: int, pieces: AsyncIterator[bytes], too_large: BodyTooLarge) -> AsyncIterator[bytes]:
    """The same pieces, of at most `limit` bytes in all."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise too_large
        yield piece
