"""Streams through a real server, with curl at the other end: it writes and reads at the same time."""

import gzip
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backports import zstd

from bundle.read import read_bundle
from tests.e2e.conftest import Server, serving, wait_until_ready

PATH = "/v1/models/fashion-vae/encode"
CODINGS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "identity": (bytes, bytes),
    "gzip": (gzip.compress, gzip.decompress),
    "zstd": (zstd.compress, zstd.decompress),
}


@pytest.fixture
def sending(curl: str) -> list[str]:
    """curl, which sends its standard input as that comes (`-T .`; with `-T -` it reads no answer while it waits)."""
    return [curl, "-sN", "-T", ".", "-X", "POST", "-H", "Content-Type: application/x-ndjson"]


@pytest.fixture
def line(shipped: Path) -> bytes:
    """A row of the bundle's own probe."""
    return json.dumps(read_bundle(shipped / "fashion-vae" / "1").golden.inputs[0].tolist()).encode() + b"\n"


def test_sigterm_ends_a_stream_that_would_go_on_with_a_reason(shipped: Path, sending: list[str], line: bytes) -> None:
    with serving(shipped) as server:
        wait_until_ready(server.address)
        with subprocess.Popen(
            [*sending, server.address + PATH], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            for index in range(3):
                client.stdin.write(line)
                client.stdin.flush()
                assert json.loads(client.stdout.readline())["index"] == index
            server.process.send_signal(signal.SIGTERM)
            end = json.loads(client.stdout.readline())
            assert end["problem"]["type"] == "/problems/draining"
            assert server.process.wait(timeout=20) == 0
            client.stdin.close()  # which is what curl waits for, whatever the server does
            assert client.stdout.read() == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stream_says_what_the_json_answer_says(server: Server, sending: list[str], line: bytes, coding: str) -> None:
    pack, unpack = CODINGS[coding]
    fields = ["-H", f"Content-Encoding: {coding}", "-H", f"Accept-Encoding: {coding}"]
    content = line * 1000
    ended = subprocess.run(
        [*sending, *fields, server.address + PATH], input=pack(content), capture_output=True, timeout=60, check=True
    )
    *lines, end = map(json.loads, unpack(ended.stdout).splitlines())
    assert end == {"done": True, "rows": 1000}
    body = b'{"inputs": [' + line + b"]}"
    json_curl = [*sending[:-1], "Content-Type: application/json", server.address + PATH]
    answer = json.loads(subprocess.run(json_curl, input=body, capture_output=True, timeout=60, check=True).stdout)
    for index, found in enumerate(lines):
        assert found["index"] == index
        np.testing.assert_allclose(found["latent"], answer["latents"][0], rtol=1e-4, atol=1e-5)
