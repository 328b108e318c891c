"""Compressed answers: as the client likes best, only what gains, and streams in full at once."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from backports import zstd

from service.api import compression
from service.api.compression import preferred_coding
from tests.service.serving import ROWS, Served, serving
from tests.service.sockets import Stream, listening

MANY = {"inputs": ROWS * 50}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.fixture
async def served(models: Path) -> AsyncIterator[Served]:
    """A service that compresses what small bundles answer."""
    async with serving(models, compress_bytes=1024) as served:
        yield served


async def raw(
    client: httpx.AsyncClient, path: str, accept_encoding: str, **arguments: Any
) -> tuple[httpx.Response, bytes]:
    """The response and its body as it came, which httpx would decompress."""
    headers = {"Accept-Encoding": accept_encoding, **arguments.pop("headers", {})}
    async with client.stream("POST", f"/v1/models/{path}", headers=headers, **arguments) as response:
        return response, b"".join([piece async for piece in response.aiter_raw()])


@pytest.mark.parametrize("coding", UNPACK)
async def test_json_is_compressed_and_says_so(served: Served, coding: str) -> None:
    response, content = await raw(served.client, "tiny/encode", coding, json=MANY)
    assert response.headers["content-encoding"] == coding
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    assert "x-request-id" in response.headers
    plain, document = await raw(served.client, "tiny/encode", "identity", json=MANY)
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept, Accept-Encoding"
    assert json.loads(UNPACK[coding](content))["latents"] == json.loads(document)["latents"]
    assert len(content) < len(document) / 2


@pytest.mark.parametrize(
    ("field", "coding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("zstd;q=0, *", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("gzip, identity;q=0.5", "gzip"),
        ("identity;q=0", None),
        ("br", None),
        ("deflate", None),
        ("", None),
        ("nonsense;;q=x, , =", None),
    ],
)
def test_the_coding_that_the_client_likes_best_is_taken(field: str, coding: str | None) -> None:
    preferred = preferred_coding(field)
    assert (preferred and preferred.name) == coding


async def test_short_answers_pictures_and_arrays_are_sent_as_they_are(served: Served) -> None:
    for arguments in (
        {"json": {"inputs": ROWS}},
        {"json": MANY, "headers": {"Accept": "image/png"}},
        {"json": MANY, "headers": {"Accept": "application/x-npy"}},
    ):
        response, content = await raw(served.client, "tiny/reconstruct", "gzip, zstd", **arguments)
        assert "content-encoding" not in response.headers
        assert len(content) == int(response.headers["content-length"])


@pytest.mark.parametrize(("size", "packed"), [(1023, False), (1024, True)])
async def test_the_least_size_counts_the_answer_as_it_is(models: Path, size: int, packed: bool) -> None:
    async with serving(models) as served:
        _, content = await raw(served.client, "tiny/encode", "identity", json=MANY, headers={"X-Request-ID": "x"})
    async with serving(models, compress_bytes=len(content) + 1024 - size) as served:
        response, _ = await raw(served.client, "tiny/encode", "gzip", json=MANY, headers={"X-Request-ID": "x"})
        assert ("content-encoding" in response.headers) is packed


async def test_problems_are_compressed_too(served: Served) -> None:
    body = {"inputs": [["wrong"] * 4] * 5}
    named = {"X-Request-ID": "x" * 128}
    response, content = await raw(served.client, "tiny/encode", "zstd", json=body, headers=named)
    assert (response.status_code, response.headers["content-encoding"]) == (422, "zstd")
    assert len(json.loads(zstd.decompress(content))["errors"]) == 10


async def test_zero_turns_it_off(models: Path) -> None:
    async with serving(models, compress_bytes=0) as served:
        response, _ = await raw(served.client, "tiny/encode", "gzip", json=MANY)
        assert "content-encoding" not in response.headers


async def test_large_answers_go_through_a_thread_and_come_out_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[object] = []
    to_thread = asyncio.to_thread

    async def counted(function: Any, /, *arguments: object) -> object:
        threads.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(compression, "LARGE_BYTES", 1000)
    monkeypatch.setattr(asyncio, "to_thread", counted)
    _, content = await raw(served.client, "tiny/encode", "gzip", json=MANY)
    assert len(threads) == 1
    assert len(json.loads(gzip.decompress(content))["latents"]) == 100


@pytest.fixture
async def port(served: Served) -> AsyncIterator[int]:
    """Where the app listens."""
    async with listening(served.app) as number:
        yield number


@pytest.mark.parametrize("coding", UNPACK)
async def test_a_line_of_a_compressed_stream_can_be_read_before_the_next_is_sent(port: int, coding: str) -> None:
    unpack: Any = zlib.decompressobj(31) if coding == "gzip" else zstd.ZstdDecompressor()
    async with Stream.open(port, "tiny/encode", Accept_Encoding=coding) as stream:
        assert await stream.head() == 200
        assert stream.fields["content-encoding"] == coding
        for index in range(3):
            await stream.send(b"[%d, 0, 0, 0]\n" % index)
            assert json.loads(unpack.decompress(await stream.piece()))["index"] == index
        await stream.end()
        rest = b""
        while piece := await stream.piece():
            rest += unpack.decompress(piece)
        assert json.loads(rest) == {"done": True, "rows": 3}
        assert unpack.eof
