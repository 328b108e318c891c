"""Clients that go away must not take anything with them: a place in the queue, a connection, the loop."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.service.serving import ROWS, serving
from tests.service.sockets import listening

CLIENTS = 200


async def _ask(port: int) -> asyncio.StreamWriter:
    """A request has been sent whole, over a connection of its own."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"inputs": ROWS}).encode()
    head = f"POST /v1/models/tiny/encode HTTP/1.1\r\nHost: diabolo\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return writer


async def test_after_200_clients_that_disconnect_at_once_the_next_wave_is_answered(models: Path) -> None:
    async with serving(models) as served, listening(served.app) as port:
        batcher = served.repository.get("tiny").batcher
        served.program.hold()
        departing = [await _ask(port) for _ in range(CLIENTS)]
        while batcher.pending_rows < CLIENTS * len(ROWS):
            await asyncio.sleep(0)
        for writer in departing:
            writer.transport.abort()
        served.program.release()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            wave = [
                client.post("/v1/models/tiny/encode", json={"inputs": [[index, 0, 0, 0]]}) for index in range(CLIENTS)
            ]
            for index, response in enumerate(await asyncio.gather(*wave)):
                assert response.json()["latents"] == [[index, 0]]
        assert (batcher.alive, batcher.pending_rows) == (True, 0)
        assert served.repository.ready
