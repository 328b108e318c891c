"""Content codings: what a compressed body holds, piece by piece, while it comes; and answers compressed in turn."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from backports import zstd

from service.api.posted import Posted
from service.errors import MalformedBody, UnsupportedMediaType

__all__ = ["IDENTITY", "content_coding", "unpacked"]

IDENTITY = "identity"
PIECE_BYTES = 2**18  # which take less than a millisecond to unfold


class Decompressor(Protocol):
    """What Python's decompressors have in common (bz2, lzma, zstd)."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Inflater:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """True once the end of what was compressed has been read."""
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        """What follows that end."""
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """The next bytes, at most `max_length`; where there may be more, it does not need input to give them."""
        piece = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = not self._inflate.unconsumed_tail and len(piece) < max_length
        return piece


# 8 MiB of memory, which is what a decoder has to have for HTTP (RFC 9659, section 3).
ZSTD_WINDOW_LOG = 23
# zlib's windowBits: with 16 more it is gzip's format, else zlib's, which HTTP calls deflate (RFC 9110, section 8.4.1).
DECOMPRESSORS: Mapping[str, Callable[[], Decompressor]] = {
    "gzip": lambda: Inflater(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: Inflater(zlib.MAX_WBITS | 16),
    "deflate": lambda: Inflater(zlib.MAX_WBITS),
    "zstd": lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}),
}
DAMAGES = (zlib.error, zstd.ZstdError)
READ = "gzip, deflate, zstd"


def content_coding(request: Posted) -> str:
    """How the body is compressed. Raises UnsupportedMediaType for a coding that is not known."""
    coding = (request.field(b"content-encoding") or IDENTITY).strip().lower()
    if coding != IDENTITY and coding not in DECOMPRESSORS:
        raise UnsupportedMediaType(
            f"the body is compressed as {coding[:40]!r}; {READ} are read",
            headers={"Accept-Encoding": READ},
        )
    return coding


async def unpacked(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """What the chunks hold, in pieces of at most 256 KiB, so a bomb never unfolds. Several compressed parts may follow
    one another, as the formats of gzip and zstd allow. Raises MalformedBody where it is damaged or incomplete."""
    if coding == IDENTITY:
        async for chunk in chunks:
            yield chunk
        return
    decompressor, whole = DECOMPRESSORS[coding](), False
    async for chunk in chunks:
        while chunk or not decompressor.needs_input:
            if whole and coding == "deflate":
                raise MalformedBody("bytes follow the end of what deflate gave")
            try:
                piece = decompressor.decompress(chunk, PIECE_BYTES)
            except DAMAGES:
                raise MalformedBody(f"the body is not what {coding} gives") from None
            if piece:
                yield piece
            chunk, whole = b"", decompressor.eof
            if whole:
                chunk, decompressor = decompressor.unused_data, DECOMPRESSORS[coding]()
            await asyncio.sleep(0)
    if not whole:
        raise MalformedBody(f"the body ends before what {coding} gave does")
