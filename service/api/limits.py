"""Reading a body, up to a limit and no further."""

from fastapi import Request

from service.errors import BodyTooLarge, UnsupportedMediaType

__all__ = ["LARGE_ANSWER_NUMBERS", "LARGE_BODY_BYTES", "read_body"]

# Above these sizes a body is parsed, and an answer written, off the event loop: neighbours must not wait for them.
LARGE_BODY_BYTES = 256_000
LARGE_ANSWER_NUMBERS = 64_000


async def read_body(request: Request, *, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes.

    Raises UnsupportedMediaType for a compressed body; BodyTooLarge before anything is read where `Content-Length`
    already says so, else as soon as the limit is passed; ClientDisconnect when the client goes away.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMediaType(
            f"the body is compressed as {coding[:40]!r}; send it as it is", headers={"Accept-Encoding": "identity"}
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise BodyTooLarge(f"the body has more than the {limit} bytes that are read")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"the body has more than the {limit} bytes that are read")
    return bytes(body)
