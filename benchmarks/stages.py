"""Where the time of a request goes: `python -m benchmarks.stages`.

The service runs in this process behind its own protocol, which is handed the bytes of requests and whose answers are
thrown away: no sockets, no load generator. In each cell of the comparison as many requests come at once as one of two
workers has connections there, and every figure is a request's share of the processor's time, on whatever thread. What
HTTP costs is what the echo's application costs behind uvicorn's protocol, the two taking turns. Figures are medians
over rounds; the framework is what the stages leave over.
"""

import asyncio
import gc
import importlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from benchmarks.echo import echo_app
from benchmarks.peers.asked import WIRES, example_rows
from benchmarks.peers.measure import CELLS, Cell
from benchmarks.serving import ROOT, print_line
from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle
from service.app import create_app
from service.connection import Connection
from service.engine.runtimes import OpenRuntime, Runtime
from service.engine.runtimes.selection import runtime_opener
from service.machine import RuntimeName
from service.server import GARBAGE_THRESHOLDS
from service.settings import Settings

__all__ = ["RUNTIMES", "STAGES", "Sink", "measure", "measure_all"]

REQUESTS, ROUNDS, WARM = 2000, 200, 50
WORKERS = 2
STAGES = ("HTTP", "body parsing", "forward", "serialising", "framework")
RUNTIMES: tuple[RuntimeName, ...] = ("torchscript", "onnx")
TIMED = {
    "service.api.operations.parse": "body parsing",
    "service.api.operations.render": "serialising",
    "service.api.v2.routes.read_message": "body parsing",
    "service.api.v2.routes.rows_from": "body parsing",
    "service.api.v2.routes.message_from": "serialising",
}

Spent = defaultdict[str, float]


class Sink(asyncio.Transport):
    """The end of a connection where answers are only counted."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self.head = b""
        self.length = 0
        self._left = 0

    def write(self, data: Any) -> None:
        """Sets `answered` once a whole answer has come."""
        if not self._left:
            self.head, _, body = bytes(data).partition(b"\r\n\r\n")
            self.length = int(self.head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
            self._left = self.length - len(body)
        else:
            self._left -= len(data)
        if not self._left:
            self.answered.set()

    def is_closing(self) -> bool:
        """Never."""
        return False

    def pause_reading(self) -> None:
        """Everything has been read already."""

    def resume_reading(self) -> None:
        """As above."""


class Timed:
    """A runtime whose forward passes are timed."""

    def __init__(self, runtime: Runtime, spent: Spent) -> None:
        self._runtime, self._spent = runtime, spent
        self.device, self.platform = runtime.device, runtime.platform

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """As the runtime does."""
        start = time.thread_time()
        outputs = self._runtime.run(method, rows)
        self._spent["forward"] += time.thread_time() - start
        return outputs


def main() -> int:
    """Measures and prints the table."""
    print_line(
        f"{'cell':8}{'runtime':12} " + " ".join(f"{name:>13}" for name in (*STAGES, "total")) + "   microseconds"
    )
    for cell, runtimes in measure_all().items():
        for runtime, spent in runtimes.items():
            print_line(f"{cell:8}{runtime:12} " + " ".join(f"{spent[name]:13.0f}" for name in (*STAGES, "total")))
    return 0


def measure_all() -> dict[str, dict[str, dict[str, float]]]:
    """By cell and runtime, microseconds of each stage of a request, and of the whole."""
    return {cell.name: {runtime: measure(runtime, cell) for runtime in RUNTIMES} for cell in CELLS}


def measure(runtime: RuntimeName, cell: Cell) -> dict[str, float]:
    """Microseconds of each stage of one of the cell's requests, and of the whole."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(runtime, cell))


async def _measure(runtime: RuntimeName, cell: Cell) -> dict[str, float]:
    spent: Spent = defaultdict(float)
    settings = Settings(models_dir=ROOT / "models", runtime=runtime, log_level="warning")
    app = create_app(settings, open_runtime=_timed(runtime_opener(runtime, device="cpu"), spent))
    async with app.router.lifespan_context(app):
        while not app.state.repository.complete:
            await asyncio.sleep(0.1)
        gc.freeze()  # as the service does
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        with ExitStack() as stack:
            for name, stage in TIMED.items():
                stack.enter_context(_timing(name, stage, spent))
            return await _take_turns(app, _message(cell), spent, at_once=max(1, cell.connections // WORKERS))


async def _take_turns(app: Any, message: bytes, spent: Spent, *, at_once: int) -> dict[str, float]:
    service = [_connection(app, Connection) for _ in range(at_once)]
    await _answer(service, message)
    if any(b" 200 OK" not in sink.head for _, sink in service):
        raise RuntimeError(f"the service did not answer rightly: {service[0][1].head.decode()}")
    echo = [_connection(echo_app(b"x" * service[0][1].length), HttpToolsProtocol) for _ in range(at_once)]
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(WARM + max(ROUNDS, REQUESTS // at_once)):
        spent.clear()
        total = await _answer(service, message)
        spent["HTTP"] = await _answer(echo, message)
        spent["framework"] = total - sum(spent.values())
        for stage, seconds in (*spent.items(), ("total", total)):
            taken[stage].append(seconds / at_once)
    return {stage: statistics.median(seconds[WARM:]) * 1e6 for stage, seconds in taken.items()}


async def _answer(connections: Sequence[tuple[HttpToolsProtocol, Sink]], message: bytes) -> float:
    """Seconds of the processor for a request on every connection, from its first byte to the last of all answers."""
    for _, sink in connections:
        sink.answered.clear()
    start = time.process_time()
    for protocol, _ in connections:
        protocol.data_received(message)
    for _, sink in connections:
        await sink.answered.wait()
    return time.process_time() - start


def _message(cell: Cell) -> bytes:
    """A whole request of the cell."""
    wire = WIRES[cell.wire]
    request = wire.request(example_rows()[: cell.rows])
    fields = {"Host": "localhost", **request.headers, "Content-Length": str(len(request.body))}
    head = [f"POST {wire.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(head).encode() + request.body


def _connection(app: Any, kind: type[HttpToolsProtocol]) -> tuple[HttpToolsProtocol, Sink]:
    config = uvicorn.Config(app, http=kind, ws="none", log_config=None, lifespan="off", server_header=False)
    protocol, sink = kind(config, ServerState(), {}), Sink()
    protocol.connection_made(sink)
    return protocol, sink


def _timed(opener: OpenRuntime, spent: Spent) -> OpenRuntime:
    def open_timed(bundle: Bundle) -> Runtime:
        return Timed(opener(bundle), spent)

    return open_timed


@contextmanager
def _timing(name: str, stage: str, spent: Spent) -> Iterator[None]:
    """Within, calls of the function are timed."""

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            result = function(*arguments, **named)
            spent[stage] += time.thread_time() - start
            return result

        return call

    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    with mock.patch(name, timed(function)):
        yield


if __name__ == "__main__":
    raise SystemExit(main())
