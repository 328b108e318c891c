"""The comparison with other servers: what is wrong is refused, what is measured is shown, what is missing says why."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.answers import WrongAnswer, check
from benchmarks.peers.environment import NotInstalled, environment
from benchmarks.peers.measure import CELLS, ratios
from benchmarks.peers.page import GOALS, STAGES, page
from benchmarks.peers.peer import PEERS
from benchmarks.peers.process import started
from benchmarks.peers.wires import BinaryTensors, Lists, RawFloats, Rows, Tensors
from benchmarks.serving import Measured

ROWS: Rows = np.arange(12, dtype=np.float32).reshape(3, 4) / np.float32(7)
EXPECTED: Rows = ROWS * np.float32(2)


@contextmanager
def answering(answer: Callable[[list[list[float]]], tuple[int, Any]]) -> Iterator[str]:
    """The address of a server that answers rows with a status and with JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = answer(body["inputs"])
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def doubled(rows: list[list[float]]) -> list[list[float]]:
    return [[2 * value for value in row] for row in rows]


def test_right_answers_pass() -> None:
    with answering(lambda rows: (200, {"outputs": doubled(rows)})) as address:
        check(address, Lists("/"), ROWS, EXPECTED)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda rows: (200, {"outputs": rows}), "values that differ"),
        (lambda rows: (200, {"outputs": doubled(rows)[:1]}), "rows of shape"),
        (lambda rows: (200, {"outputs": doubled(rows)[::-1]}), "values that differ"),
        (lambda rows: (200, {"outputs": doubled(rows) if len(rows) > 1 else rows}), "values that differ"),
        (lambda _: (200, {"rows": []}), "not to be read"),
        (lambda _: (500, {"detail": "broken"}), "status 500"),
    ],
    ids=["wrong values", "too few rows", "wrong order", "wrong alone", "another shape of answer", "a failure"],
)
def test_wrong_answers_are_refused(answer: Callable[[Any], tuple[int, Any]], reason: str) -> None:
    with answering(answer) as address, pytest.raises(WrongAnswer, match=reason):
        check(address, Lists("/"), ROWS, EXPECTED)


def test_a_server_that_ends_is_refused_with_its_last_words() -> None:
    command = ["python3", "-c", "raise SystemExit('the model is not there')"]
    with pytest.raises(WrongAnswer, match="the model is not there"), started(command, {}, (Lists("/"), ROWS)):
        raise AssertionError("it has not even listened")


def test_tensors_are_read_as_the_protocol_writes_them() -> None:
    tensor = {"name": "reconstruction", "shape": [3, 4], "datatype": "FP32"}
    flat = json.dumps({"outputs": [tensor | {"data": ROWS.ravel().tolist()}]}).encode()
    assert np.array_equal(Tensors("/").rows(flat, {}), ROWS)

    head = json.dumps({"outputs": [tensor | {"parameters": {"binary_data_size": ROWS.nbytes}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert np.array_equal(BinaryTensors("/").rows(head + ROWS.tobytes(), headers), ROWS)
    with pytest.raises(ValueError, match="40 bytes follow"):
        BinaryTensors("/").rows(head + ROWS.tobytes()[:40], headers)


def test_raw_values_are_read_as_they_are_written() -> None:
    wire = RawFloats("/", width=4)
    assert np.array_equal(wire.rows(wire.request(ROWS).body, {}), ROWS)


def test_each_round_counts_against_the_mean_of_its_neighbours() -> None:
    def rounds(*figures: float) -> list[Measured]:
        return [Measured(figure, 1.0, 1.0) for figure in figures]

    # The machine becomes twice as slow after the first round, and the ratio stays.
    figures = {"": rounds(300, 150, 150), "peer": rounds(120, 80, 20, 80), "echo": rounds(600, 600, 300, 300)}
    assert ratios(figures) == {"peer": 3.0, "echo": 0.5}


def test_every_peer_has_its_program_and_exact_versions() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "peers"
    for peer in PEERS:
        assert (folder / f"{peer.name}.py").exists()
        packages = (folder / f"{peer.name}.txt").read_text().splitlines()
        assert all("==" in line for line in packages)
        assert any(line.lower().startswith(f"{peer.package}==") for line in packages)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.environment.FOLDER", tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(NotInstalled, match="exit code 1"):
        environment(PEERS[0])


def result() -> dict[str, Any]:
    figure = {"requests_per_second": 1234.5, "p50_ms": 1.25, "p99_ms": 2.5}
    figures = {"ours": figure | {"requests_per_second": 4000.0}, "peer": figure, "echo": figure}
    duel = {"peer": "Swift", "variant": "batches", "figures": figures, "times_peer": 2.51, "of_echo": 0.5}
    measured = {"cells": {"W1c1": figure | {"of_echo": 0.1}}, "memory_mib": 300}
    single = measured | {"name": "single"}
    batches = {"name": "batches", "cells": {}, "refused": "status 500: <|>"}
    names = {"package": "swift", "binary": False}
    return {
        "date": "2026-01-31",
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "memory_gib": 24,
            "system": "Linux",
            "python": "3.11",
            "load": "wrk 4",
            "packages": {"diabolo": "0.1.0"},
        },
        "pace": {"survey": {"rounds": 2, "seconds": 2}, "duel": {"rounds": 5, "seconds": 2}},
        "runtime": "onnx",
        "memory_mib": 500,
        "forward": {"1": 9000, "16": 50000},
        "stages": {"W1c1": {"onnx": dict.fromkeys(STAGES, 50.0) | {"total": 250.0}}},
        "duels": {"W1c1": duel, "W1c16": duel | {"times_peer": 2.49}},
        "by_torchscript": measured,
        "peers": [
            names | {"name": "swift", "title": "Swift", "versions": {"swift": "1.2"}, "variants": [single, batches]},
            names | {"name": "gone", "title": "Gone", "versions": {}, "variants": [], "absent": "no wheel"},
        ],
    }


def test_the_page_shows_figures_ratios_and_what_is_missing() -> None:
    shown = page(result())
    duels = [line for line in shown.splitlines() if line.startswith(("| W1c1 |", "| W1c16 |"))]
    assert duels[0].endswith("| 2.51x (goal 2.0x) | 0.50 (goal 0.16) | holds |")
    assert duels[1].endswith("| 2.49x (goal 2.5x) | 0.50 (goal 0.32) | **missed** |")
    assert "| this service, by TorchScript | 0.1.0 | 1234 (1.2, 2.5) 0.10 | - | - | - | - | 300 |" in shown
    assert "| Swift | 1.2 | 1234 (1.2, 2.5) 0.10, single | - | - | - | - | 300 |" in shown
    assert "| W1c1 | onnx | 50 | 50 | 50 | 50 | 50 | 250 | 20% |" in shown
    assert "| rows/s | 9000 | 50000 |" in shown
    assert "- Gone is not there: no wheel" in shown
    assert "- Swift, batches, was refused: status 500: &lt;/>" in shown


def test_a_long_tail_misses_the_goal_of_many_connections() -> None:
    results = result()
    duel = results["duels"].pop("W1c1")
    results["duels"] = {"W1c64": duel}
    assert "| holds |" in page(results)
    duel["figures"]["ours"]["p99_ms"] = 5.01 * duel["figures"]["ours"]["p50_ms"]
    assert "| **missed** |" in page(results)


def test_every_cell_has_a_goal() -> None:
    assert [cell.name for cell in CELLS] == list(GOALS)
