"""Compressed requests: read as what they hold, counted as what they hold, refused where they are not whole."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from backports import zstd

from service.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType
from tests.service.serving import ROWS, Served, assert_problem, publish_all, serving

LIMIT = 100_000
BODY = json.dumps({"inputs": ROWS}).encode()
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The app with a small limit of bytes."""
    async with serving(publish_all(tmp_path_factory.mktemp("models")), max_body_bytes=LIMIT) as app:
        yield app


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_body_is_read_under_both_protocols(served: Served, coding: str) -> None:
    packed = CODINGS[coding](BODY)
    plain = (await served.post("tiny/encode", content=BODY)).json()["latents"]
    response = await served.post("tiny/encode", content=packed, headers={"Content-Encoding": coding})
    assert response.json()["latents"] == plain
    request = {"inputs": [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}]}
    response = await served.client.post(
        "/v2/models/tiny/infer",
        content=CODINGS[coding](json.dumps(request).encode()),
        headers={"Content-Encoding": coding},
    )
    assert response.status_code == 200


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_that_comes_in_pieces_is_read(served: Served, coding: str) -> None:
    packed = CODINGS[coding](BODY)

    async def pieces() -> AsyncIterator[bytes]:
        for byte in packed:
            yield bytes([byte])

    response = await served.post("tiny/encode", content=pieces(), headers={"Content-Encoding": coding})
    assert response.status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_parts_that_follow_one_another_are_one_body(served: Served, coding: str) -> None:
    packed = b"".join(CODINGS[coding](BODY[start : start + 20]) for start in range(0, len(BODY), 20))
    response = await served.post("tiny/encode", content=packed, headers={"Content-Encoding": coding})
    assert response.status_code == 200


async def test_parts_that_hold_nothing_count_as_they_came(served: Served) -> None:
    packed = gzip.compress(b"") * (LIMIT // 20)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield packed

    response = await served.post("tiny/encode", content=pieces(), headers={"Content-Encoding": "gzip"})
    assert_problem(response, BodyTooLarge)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("excess", [0, 1, 10**8])
async def test_the_limit_counts_what_the_body_holds(served: Served, coding: str, excess: int) -> None:
    packed = CODINGS[coding](BODY + b" " * (LIMIT - len(BODY) + excess))
    assert excess == 10**8 or len(packed) < LIMIT / 50
    response = await served.post("tiny/encode", content=packed[:LIMIT], headers={"Content-Encoding": coding})
    if excess:
        assert_problem(response, BodyTooLarge)
    else:
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", b""),
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY)[:-1]),
        ("gzip", gzip.compress(BODY) + b"x"),
        ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
        ("gzip", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY) * 2),
        ("zstd", b""),
        ("zstd", BODY),
        ("zstd", zstd.compress(BODY)[:-1]),
        ("zstd", zstd.compress(BODY) + b"x"),
        ("zstd", gzip.compress(BODY)),
    ],
)
async def test_what_is_not_whole_is_refused(served: Served, coding: str, content: bytes) -> None:
    response = await served.post("tiny/encode", content=content, headers={"Content-Encoding": coding})
    assert_problem(response, MalformedBody)


async def test_a_frame_that_asks_for_more_memory_than_http_allows_is_refused(served: Served) -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    packed = packer.compress(BODY, packer.FLUSH_BLOCK) + packer.flush()
    response = await served.post("tiny/encode", content=packed, headers={"Content-Encoding": "zstd"})
    assert_problem(response, MalformedBody)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress", "x" * 1000])
async def test_another_coding_is_refused_with_what_would_be_right(served: Served, coding: str) -> None:
    response = await served.post("tiny/encode", content=BODY, headers={"Content-Encoding": coding})
    problem = assert_problem(response, UnsupportedMediaType)
    assert "gzip, deflate, zstd are read" in problem["detail"]
    assert response.headers["Accept-Encoding"] == "gzip, deflate, zstd"
