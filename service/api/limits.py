"""Reading a body, up to a limit and no further."""

import asyncio
import zlib

from fastapi import Request

from service.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

__all__ = ["LARGE_ANSWER_NUMBERS", "LARGE_BODY_BYTES", "read_body"]

# Above these sizes a body is parsed, and an answer written, off the event loop: neighbours must not wait for them.
LARGE_BODY_BYTES = 256_000
LARGE_ANSWER_NUMBERS = 64_000

INFLATED_AT_ONCE = 2**20  # bytes, which take two or three milliseconds

# zlib's windowBits: with 16 more it is gzip's format, else zlib's, which HTTP calls deflate (RFC 9110, section 8.4.1).
WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, *, limit: int) -> bytes:
    """The whole body, decompressed, of at most `limit` bytes: neither as it came nor as it is may it have more.

    Raises UnsupportedMediaType for a coding that is not known; BodyTooLarge before anything is read where
    `Content-Length` already says so, else as soon as the limit is passed; MalformedBody where a compressed body is
    damaged or incomplete; ClientDisconnect when the client goes away.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    announced = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"the body has more than the {limit} bytes that are read")
    if coding not in ("identity", *WINDOW_BITS):
        raise UnsupportedMediaType(
            f"the body is compressed as {coding[:40]!r}; gzip and deflate are read",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise too_large
    body = bytearray()
    if coding == "identity":
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    packed, inflater = 0, zlib.decompressobj(WINDOW_BITS[coding])
    async for chunk in request.stream():
        packed += len(chunk)
        while chunk:
            try:
                # One byte more than fits is enough to know, so a bomb never unfolds.
                body += inflater.decompress(chunk, min(INFLATED_AT_ONCE, limit + 1 - len(body)))
            except zlib.error:
                raise MalformedBody(f"the body is not what {coding} gives") from None
            if len(body) > limit or packed > limit:
                raise too_large
            chunk = inflater.unconsumed_tail
            await asyncio.sleep(0)
        if inflater.unused_data:
            raise MalformedBody(f"bytes follow the end of what {coding} gave")
    if not inflater.eof:
        raise MalformedBody(f"the body ends before what {coding} gave does")
    return bytes(body)
