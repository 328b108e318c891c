"""Answers compressed for clients that say they can read that."""

import asyncio
import gzip
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from backports import zstd
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.http import parse_accept_header

__all__ = ["Compression", "packing", "preferred_coding"]

# What becomes half as long. Arrays of floats shrink by a twentieth, and pictures are compressed as they are.
TYPES = {b"application/json", b"application/problem+json", b"application/x-ndjson"}
# Higher levels take two to eight times as long, for numbers that are a tenth shorter at best.
LEVEL = 1
# More than anybody needs, and little enough to be parsed, and kept, on the event loop.
MOST_FIELD_BYTES = 1024
# Above this size it takes more than a millisecond and is done off the event loop.
LARGE_BYTES = 2**17


class Compressor(Protocol):
    """What zlib's and zstd's have in common."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: Any = ..., /) -> bytes: ...


class Coding(NamedTuple):
    """A content coding: `whole` compresses at once; what `make` makes has `flush` for all that it was given so far."""

    name: str
    whole: Callable[[bytes], bytes]
    make: Callable[[], Compressor]
    flush: int


# In order of preference.
CODINGS: Mapping[str, Coding] = {
    "zstd": Coding(
        "zstd",
        lambda content: zstd.compress(content, LEVEL),
        lambda: zstd.ZstdCompressor(LEVEL),
        zstd.ZstdCompressor.FLUSH_BLOCK,
    ),
    "gzip": Coding(
        "gzip",
        lambda content: gzip.compress(content, LEVEL, mtime=0),
        lambda: zlib.compressobj(LEVEL, wbits=zlib.MAX_WBITS | 16),
        zlib.Z_SYNC_FLUSH,
    ),
}


def preferred_coding(accept_encoding: str) -> Coding | None:
    """The coding that an `Accept-Encoding` field likes best (RFC 9110, section 12.5.3), or None for none; and for a
    field too long to be read, whose preferences may be disregarded (section 12.1)."""
    return _preferred(accept_encoding) if len(accept_encoding) <= MOST_FIELD_BYTES else None


@lru_cache(maxsize=256)
def _preferred(accept_encoding: str) -> Coding | None:
    accepted = parse_accept_header(accept_encoding)
    name = max(CODINGS, key=accepted.quality)
    plain = max((quality for coding, quality in accepted if coding.lower() == "identity"), default=0)
    return CODINGS[name] if accepted.quality(name) > 0 and accepted.quality(name) >= plain else None


class Compression:
    """ASGI middleware: JSON of at least `min_bytes` is compressed as the client likes best, streams of it with every
    piece in full at once. Everything else passes as it is."""

    def __init__(self, app: ASGIApp, *, min_bytes: int) -> None:
        self._app = app
        self._min_bytes = min_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app; answers that depend on `Accept-Encoding` say so."""
        if scope["type"] == "http":
            fields = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-encoding"]
            send = packing(send, ", ".join(fields) if fields else None, min_bytes=self._min_bytes)
        await self._app(scope, receive, send)


def packing(send: Send, accept_encoding: str | None, *, min_bytes: int) -> Send:
    """`send` for one answer, which compresses it as `accept_encoding` says, and says that the answer depends on it."""
    return _Answer(send, preferred_coding(accept_encoding) if accept_encoding is not None else None, min_bytes)


class _Answer:
    """`send` for one answer."""

    def __init__(self, send: Send, coding: Coding | None, min_bytes: int) -> None:
        self._send = send
        self._coding = coding
        self._min_bytes = min_bytes
        self._held: Message | None = None
        self._compressor: Compressor | None = None

    async def __call__(self, message: Message) -> None:
        """Sends the message on, compressed where it is to be; the head waits for a body that comes as a whole."""
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._held is not None:
            await self._whole(self._held, message)
        elif self._compressor is not None:
            await self._piece(self._compressor, message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        fields = dict(message["headers"])
        if fields.get(b"content-type", b"").partition(b";")[0] not in TYPES or b"content-encoding" in fields:
            await self._send(message)
            return
        vary = fields.get(b"vary", b"")
        if b"accept-encoding" not in vary.lower():
            message = _with(message, {b"vary": vary + b", Accept-Encoding" if vary else b"Accept-Encoding"})
        if self._coding is None:
            await self._send(message)
        elif b"content-length" in fields:
            self._held = message
        else:
            self._compressor = self._coding.make()
            await self._send(_with(message, {b"content-encoding": self._coding.name.encode()}))

    async def _whole(self, start: Message, message: Message) -> None:
        self._held = None
        content = message.get("body", b"")
        if self._coding is not None and len(content) >= self._min_bytes and not message.get("more_body"):
            packed = await _run(self._coding.whole, content)
            length = str(len(packed)).encode()
            start = _with(start, {b"content-encoding": self._coding.name.encode(), b"content-length": length})
            message = {**message, "body": packed}
        await self._send(start)
        await self._send(message)

    async def _piece(self, compressor: Compressor, message: Message) -> None:
        def pack(content: bytes) -> bytes:
            packed = compressor.compress(content) if content else b""
            if not message.get("more_body"):
                return packed + compressor.flush()
            assert self._coding is not None
            return packed + compressor.flush(self._coding.flush) if content else b""

        await self._send({**message, "body": await _run(pack, message.get("body", b""))})


async def _run(pack: Callable[[bytes], bytes], content: bytes) -> bytes:
    return pack(content) if len(content) <= LARGE_BYTES else await asyncio.to_thread(pack, content)


def _with(message: Message, fields: Mapping[bytes, bytes]) -> Message:
    others = [(name, value) for name, value in message["headers"] if name not in fields]
    return {**message, "headers": [*others, *fields.items()]}
