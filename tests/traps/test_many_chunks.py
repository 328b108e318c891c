"""A body that comes as a million chunks of one byte, over a real connection, is one body; others are answered in its
midst."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.service.serving import ROWS, serving
from tests.service.sockets import listening

BYTES = 1_000_000
PIECE = 10_000
HEAD = (
    b"POST /v1/models/tiny/encode HTTP/1.1\r\nHost: diabolo\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def test_a_million_chunks_of_one_byte_are_one_body_and_others_are_answered_meanwhile(models: Path) -> None:
    body = json.dumps({"inputs": ROWS}).encode().ljust(BYTES)
    async with serving(models) as served, listening(served.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for start in range(0, BYTES, PIECE):
                writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body[start : start + PIECE]))
                await writer.drain()
                if start % (BYTES // 4) == 0:
                    response = await client.post("/v1/models/tiny/encode", json={"inputs": ROWS})
                    assert response.status_code == 200
        writer.write(b"0\r\n\r\n")
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert json.loads(answer)["latents"] == [row[:2] for row in ROWS]
        writer.close()
