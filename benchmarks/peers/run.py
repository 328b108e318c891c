"""The whole comparison: which servers answer, how fast each is, and the service between the best of them."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks import forward, stages
from benchmarks.peers.answers import WrongAnswer, check
from benchmarks.peers.asked import WIRES, example_rows
from benchmarks.peers.environment import NotInstalled, environment, installed_versions
from benchmarks.peers.measure import CELLS, Cell, Compared, Contender, Pace, between
from benchmarks.peers.network import reconstruct
from benchmarks.peers.peer import BINARY, JSON, Peer, Variant
from benchmarks.peers.process import started
from benchmarks.peers.wires import Rows, Wire
from benchmarks.serving import MODEL, ROOT, print_line

__all__ = ["run"]

PROGRAM = ROOT / "models" / MODEL / "1" / "model.pt"
SERVICE = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--workers", "2", "--port", "PORT"]
SETTINGS = {"DIABOLO_MODELS_DIR": str(ROOT / "models"), "DIABOLO_LOG_LEVEL": "warning"}
SURVEY = Pace(rounds=2, seconds=1)

Result = dict[str, Any]


class Comparison:
    """The rows, what is right for them, and the servers that run all the while."""

    def __init__(self, stack: ExitStack) -> None:
        self.rows = example_rows()
        self.expected: Rows = reconstruct(str(PROGRAM))(torch.from_numpy(self.rows)).numpy()
        self.service = stack.enter_context(self.checked(SERVICE, SETTINGS, WIRES))
        self.echoes = {cell: stack.enter_context(self.echo(cell)) for cell in CELLS}

    @contextmanager
    def checked(self, command: list[str], settings: dict[str, str], wires: dict[str, Wire]) -> Iterator[Contender]:
        """A server that has answered rightly in every way that it can be asked. Raises WrongAnswer."""
        with started(command, settings, (wires[JSON], self.rows[:1])) as server:
            for wire in wires.values():
                check(server.address, wire, self.rows, self.expected)
            yield Contender(server, wires)

    @contextmanager
    def echo(self, cell: Cell) -> Iterator[Contender]:
        """A server with as many workers that reads the cell's requests and answers at the service's length."""
        wire = WIRES[cell.wire]
        request = wire.request(self.rows[: cell.rows])
        url = self.service.server.address + wire.path
        answer = httpx.post(url, content=request.body, headers=dict(request.headers), timeout=60)
        command = [sys.executable, "-m", "benchmarks.echo", str(len(answer.content)), "2", "PORT"]
        with started(command, {}, (wire, self.rows[:1])) as server:
            yield Contender(server, WIRES)

    @contextmanager
    def peer(self, peer: Peer, variant: Variant) -> Iterator[Contender]:
        """A peer that has answered rightly. Raises NotInstalled, WrongAnswer."""
        programs = environment(peer)
        command = [str(programs / "python"), "-m", f"benchmarks.peers.{peer.name}", str(PROGRAM), "PORT"]
        settings = dict(peer.environment) | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        with self.checked([*command, *variant.arguments], settings, dict(peer.wires)) as contender:
            yield contender


def run(peers: Sequence[Peer], pace: Pace, *, stack: ExitStack) -> Result:
    """What docs/performance.json holds. Raises WrongAnswer where the service itself is wrong."""
    comparison = Comparison(stack)
    with comparison.checked(SERVICE, SETTINGS | {"DIABOLO_RUNTIME": "torchscript"}, WIRES) as contender:
        by_torchscript = surveyed_cells(comparison, contender, "this service by TorchScript")
    surveyed = [survey(comparison, peer) for peer in peers]
    duels = duel_all(comparison, peers, surveyed, pace)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "pace": {"survey": SURVEY._asdict(), "duel": pace._asdict()},
        "runtime": runtime(comparison),
        "memory_mib": round(comparison.service.server.memory_mib()),
        "duels": duels,
        "by_torchscript": by_torchscript,
        "peers": surveyed,
        "forward": {str(rows): round(forward.rows_per_second(rows)) for rows in forward.ROWS},
        "stages": stages.measure_all(),
    }


def survey(comparison: Comparison, peer: Peer) -> Result:
    """The peer's variants in every cell, each round between two of the echo; what fails says why."""
    result: Result = {"name": peer.name, "title": peer.title, "package": peer.package, "binary": BINARY in peer.wires}
    result |= {"versions": {}, "variants": []}
    try:
        result["versions"] = installed_versions(peer, environment(peer))
    except NotInstalled as reason:
        print_line(f"{peer.title}: not installed: {reason}")
        return result | {"absent": str(reason)}
    for variant in peer.variants:
        entry: Result = {"name": variant.name, "cells": {}}
        result["variants"].append(entry)
        try:
            with comparison.peer(peer, variant) as contender:
                entry |= surveyed_cells(comparison, contender, f"{peer.title:30} {variant.name}")
        except (WrongAnswer, RuntimeError) as reason:
            print_line(f"{peer.title:30} {variant.name:14} refused: {reason}")
            entry["refused"] = str(reason)
    return result


def surveyed_cells(comparison: Comparison, contender: Contender, name: str) -> Result:
    """Its figures in every cell that it can be asked in, each round between two of the echo, and its memory then."""
    cells = {}
    for cell in CELLS:
        if cell.wire in contender.wires:
            compared = between(contender, {"echo": comparison.echoes[cell]}, cell, comparison.rows, SURVEY)
            cells[cell.name] = figures(compared, "") | {"of_echo": compared.ratios["echo"]}
            print_line(f"{name:45} {cell.name:6} {compared.figures[''].requests_per_second:8.0f}")
    return {"cells": cells, "memory_mib": round(contender.server.memory_mib())}


def duel_all(comparison: Comparison, peers: Sequence[Peer], surveyed: list[Result], pace: Pace) -> dict[str, Result]:
    """In each cell the service, every round between two of its best rival and two of the echo."""
    by_name = {(peer.name, variant.name): (peer, variant) for peer in peers for variant in peer.variants}
    found = {}
    for cell in CELLS:
        rivals = [
            (entry["cells"][cell.name]["requests_per_second"], result["name"], entry["name"])
            for result in surveyed
            for entry in result["variants"]
            if cell.name in entry["cells"]
        ]
        for _, name, variant in sorted(rivals, reverse=True):
            try:
                with comparison.peer(*by_name[name, variant]) as rival:
                    neighbours = {"peer": rival, "echo": comparison.echoes[cell]}
                    compared = between(comparison.service, neighbours, cell, comparison.rows, pace)
                break
            except (WrongAnswer, RuntimeError) as reason:  # the next best, then
                print_line(f"{name}, {variant}: {reason}")
        else:
            continue
        found[cell.name] = {
            "peer": by_name[name, variant][0].title,
            "variant": variant,
            "figures": {who or "ours": figures(compared, who) for who in compared.figures},
            "times_peer": compared.ratios["peer"],
            "of_echo": compared.ratios["echo"],
        }
        ours, theirs = compared.figures[""].requests_per_second, compared.figures["peer"].requests_per_second
        print_line(f"{cell.name:6} ours {ours:8.0f}   {name} {theirs:8.0f}   {compared.ratios}")
    return found


def runtime(comparison: Comparison) -> str:
    """What the service runs the network with."""
    answer = httpx.get(f"{comparison.service.server.address}/v2/models/{MODEL}").raise_for_status()
    return str(answer.json()["platform"])


def load_generator() -> str:
    """Its name and version."""
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout  # exits with 1
    return " ".join(said.split()[:2])


def figures(compared: Compared, name: str) -> Result:
    """As JSON has them."""
    return {key: round(value, 3) for key, value in compared.figures[name]._asdict().items()}


def machine() -> Result:
    """What the figures hang on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    packages = ("diabolo", "uvicorn", "uvloop", "httptools", "torch", "onnxruntime", "numpy")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": load_generator(),
        "packages": {name: version(name) for name in packages},
    }
