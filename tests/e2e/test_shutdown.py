"""How the server ends: in order, whatever is under way."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.conftest import DIABOLO, ROOT, Server, serving, wait_until_ready

BODY = {"inputs": np.full((64, 784), 0.25).tolist()}


def hammer(server: Server, outcomes: Counter[str], stop: threading.Event) -> None:
    """Sends requests on one connection after the other and counts how they end; halves are counted as such."""
    with httpx.Client(timeout=20) as client:
        while not stop.is_set():
            try:
                response = client.post(f"{server.address}/v1/models/fashion-vae/reconstruct", json=BODY)
            except (httpx.ConnectError, httpx.WriteError):
                outcomes["not accepted"] += 1
                return
            except httpx.RemoteProtocolError as error:
                outcomes["closed before an answer" if "without sending" in str(error) else "half"] += 1
                return
            except httpx.ReadError:
                outcomes["closed before an answer"] += 1
                return
            whole = response.status_code == 200 and len(response.json()["outputs"]) == 64
            outcomes["whole" if whole else f"status {response.status_code}"] += 1


@pytest.mark.parametrize(("sent", "workers"), [(signal.SIGTERM, "1"), (signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_signal_under_load_ends_within_ten_seconds_and_no_answer_is_cut(
    shipped: Path, sent: signal.Signals, workers: str
) -> None:
    outcomes: Counter[str] = Counter()
    stop = threading.Event()
    with serving(shipped, workers=workers) as server:
        wait_until_ready(server.address)
        clients = [threading.Thread(target=hammer, args=(server, outcomes, stop)) for _ in range(8)]
        for client in clients:
            client.start()
        while outcomes["whole"] < 40:
            time.sleep(0.01)
        started = time.monotonic()
        server.process.send_signal(sent)
        code = server.process.wait(timeout=20)
        took = time.monotonic() - started
        stop.set()
        for client in clients:
            client.join(timeout=20)
    assert code == 0
    assert took < 10
    assert outcomes["half"] == 0
    assert outcomes["closed before an answer"] == 0, "nothing accepted is lost"
    assert not [outcome for outcome in outcomes if outcome.startswith("status ") and outcome != "status 503"]


def test_a_second_sigterm_changes_nothing(shipped: Path) -> None:
    with serving(shipped, drain_delay="1") as server:
        wait_until_ready(server.address)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        with httpx.Client() as client:
            while client.get(f"{server.address}/readyz").status_code == 200:
                pass
            # Not ready any more, yet what still arrives during the delay is answered.
            assert client.get(f"{server.address}/livez").status_code == 200
            answer = client.post(f"{server.address}/v1/models/fashion-vae/sample", json={"count": 1, "seed": 1})
            assert answer.status_code == 200
        assert server.process.wait(timeout=20) == 0


# Read by Python when it starts, in the workers too. No bundle can do this: loops are not among what programs may say.
ENDLESS = """
import time

from service.engine.runtimes.onnx import OnnxRuntime

run = OnnxRuntime.run

def endless(self, method, rows):
    while rows.max() > 100:
        time.sleep(0.01)
    return run(self, method, rows)

OnnxRuntime.run = endless
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_forward_pass_that_never_ends_keeps_neither_its_client_nor_the_process(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDLESS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    settings = {"workers": workers, "inline_ms": "0", "stall_seconds": "0.3", "drain_delay": "1", "drain_seconds": "1"}
    with serving(shipped, **settings) as server:
        wait_until_ready(server.address)
        answers: list[httpx.Response] = []

        def ask() -> None:
            path = f"{server.address}/v1/models/fashion-vae/reconstruct"
            answers.append(httpx.post(path, json={"inputs": [[1000] * 784]}, timeout=30))

        client = threading.Thread(target=ask)
        client.start()
        # Of two workers the one that is free answers; the request reaches the other within `drain_delay`.
        while workers == "1" and httpx.get(f"{server.address}/readyz").status_code == 200:
            time.sleep(0.01)
        assert httpx.get(f"{server.address}/livez").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        client.join(timeout=30)
    (answer,) = answers
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/draining"


def test_a_taken_port_is_one_clear_line_and_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*DIABOLO, "serve", "--port", port], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr
