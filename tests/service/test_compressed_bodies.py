"""Compressed requests: read as what they hold, counted as what they hold, refused where they are not whole."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from service.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType
from tests.service.serving import ROWS, Served, assert_problem, publish_all, serving

LIMIT = 100_000
BODY = json.dumps({"inputs": ROWS}).encode()
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
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


async def test_a_body_that_comes_in_pieces_is_read(served: Served) -> None:
    packed = gzip.compress(BODY)

    async def pieces() -> AsyncIterator[bytes]:
        for byte in packed:
            yield bytes([byte])

    response = await served.post("tiny/encode", content=pieces(), headers={"Content-Encoding": "gzip"})
    assert response.status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
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
    "content",
    [
        b"",
        BODY,
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY) + b"x",
        gzip.compress(BODY)[:-8] + b"\0" * 8,
        zlib.compress(BODY),
    ],
)
async def test_what_is_not_whole_is_refused(served: Served, content: bytes) -> None:
    response = await served.post("tiny/encode", content=content, headers={"Content-Encoding": "gzip"})
    assert_problem(response, MalformedBody)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd", "x" * 1000])
async def test_another_coding_is_refused_with_what_would_be_right(served: Served, coding: str) -> None:
    response = await served.post("tiny/encode", content=BODY, headers={"Content-Encoding": coding})
    problem = assert_problem(response, UnsupportedMediaType)
    assert "gzip and deflate are read" in problem["detail"]
    assert response.headers["Accept-Encoding"] == "gzip, deflate"
