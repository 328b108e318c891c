"""A thousand slow clients of a real server: they end in time, and meanwhile nobody waits for them."""

import contextlib
import resource
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from tests.e2e.conftest import serving, wait_until_ready
from tests.e2e.test_metrics import scraped
from tests.e2e.test_workers import eventually

CLIENTS = 1000
HEAD = b"POST /v1/models/fashion-linear/encode HTTP/1.1\r\nHost: diabolo\r\n"
BODY = {"inputs": np.full((1, 784), 0.25).tolist()}


def _answer(client: socket.socket) -> bytes:
    """All that the server sends before it closes the connection."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            content += piece
    return content


def test_a_thousand_slow_clients_end_in_time_and_nobody_waits_for_them(shipped: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CLIENTS), hard))
    shutil.copytree(shipped / "fashion-linear", tmp_path / "fashion-linear")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path, workers="2", receive_seconds="3", log_level="warning"))
        wait_until_ready(server.address)
        place = urlsplit(server.address)
        slow = []
        for number in range(CLIENTS):
            client = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=30))
            client.sendall([b"", HEAD, HEAD + b"Content-Length: 9999\r\n\r\n{"][number % 3])
            slow.append(client)
        with httpx.Client() as fast:
            for _ in range(20):
                assert fast.post(f"{server.address}/v1/models/fashion-linear/encode", json=BODY).status_code == 200
        answers = [_answer(client) for client in slow]
        said = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        eventually(lambda: scraped(server, "diabolo_rejected_requests_total", reason="request-too-slow") == said)
    for number, answer in enumerate(answers):
        assert answer.startswith([b"", b"HTTP/1.1 408 ", b"HTTP/1.1 408 "][number % 3]), answer
        assert bool(answer) == bool(number % 3)


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(shipped: Path, tmp_path: Path) -> None:
    shutil.copytree(shipped / "fashion-vae", tmp_path / "fashion-vae")
    body = b'{"count": 4096}'
    with serving(tmp_path, workers="1", send_seconds="2", log_level="warning") as server:
        wait_until_ready(server.address)
        place = urlsplit(server.address)
        with socket.create_connection((place.hostname, place.port), timeout=30) as client:
            head = b"POST /v1/models/fashion-vae/sample HTTP/1.1\r\nHost: diabolo\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(body) + body)
            eventually(lambda: scraped(server, "diabolo_bodies_held_bytes") > 0)
            eventually(lambda: scraped(server, "diabolo_bodies_held_bytes") == 0)
            answer = _answer(client)
        size = int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(answer) < size, "what the system had taken, and then the end"
        with httpx.Client() as fast:
            assert fast.post(f"{server.address}/v1/models/fashion-vae/sample", json={"count": 1}).status_code == 200
