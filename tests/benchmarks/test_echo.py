"""The limit of the HTTP stack runs on the service's own workers, so a change of these must not leave it behind."""

import sys

import httpx
import numpy as np
import pytest

from benchmarks.peers.process import started
from benchmarks.peers.wires import Lists


@pytest.mark.parametrize("workers", [1, 2])
def test_the_echo_answers_at_the_length_that_it_was_told(workers: int) -> None:
    wire = Lists("/")
    rows = np.zeros((1, 4), np.float32)
    with started([sys.executable, "-m", "benchmarks.echo", "100", str(workers), "PORT"], {}, (wire, rows)) as server:
        answer = httpx.post(server.address, content=wire.request(rows).body, timeout=30)
        assert (answer.status_code, len(answer.content)) == (200, 100)
