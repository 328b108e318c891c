"""Where the time of one row's request goes: `python -m benchmarks.stages`.

The service runs in this process behind its own protocol, which is handed the bytes of a request and whose answer is
thrown away: no sockets, no load generator, no waiting. What HTTP costs is what the echo's application costs behind
uvicorn's, the two taking turns. Every figure is a median over requests; the framework is what the stages leave over.
"""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from benchmarks.echo import echo_app
from benchmarks.peers.wires import Lists
from benchmarks.serving import MODEL, ROOT, example_row, print_line
from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle
from service.app import create_app
from service.connection import Connection
from service.engine.runtimes import OpenRuntime, Runtime
from service.engine.runtimes.selection import runtime_opener
from service.machine import RuntimeName
from service.settings import Settings

__all__ = ["RUNTIMES", "STAGES", "measure"]

REQUESTS, WARM = 2000, 300
STAGES = ("HTTP", "body parsing", "forward", "serialising", "framework")
RUNTIMES: tuple[RuntimeName, ...] = ("torchscript", "onnx")
HEAD = "POST /v1/models/{model}/reconstruct HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

Spent = defaultdict[str, float]


class Sink(asyncio.Transport):
    """The end of a connection where answers are only counted."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self.head = b""
        self._left = 0

    def write(self, data: Any) -> None:
        """Sets `answered` once a whole answer has come."""
        if not self._left:
            self.head, _, body = bytes(data).partition(b"\r\n\r\n")
            self._left = int(self.head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0]) - len(body)
        else:
            self._left -= len(data)
        if not self._left:
            self.answered.set()

    def is_closing(self) -> bool:
        """Never."""
        return False


class Timed:
    """A runtime whose forward passes are timed."""

    def __init__(self, runtime: Runtime, spent: Spent) -> None:
        self._runtime, self._spent = runtime, spent
        self.device, self.platform = runtime.device, runtime.platform

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """As the runtime does."""
        start = time.perf_counter()
        outputs = self._runtime.run(method, rows)
        self._spent["forward"] += time.perf_counter() - start
        return outputs


def main() -> int:
    """Measures and prints the table."""
    print_line(f"{'runtime':12} " + " ".join(f"{stage:>13}" for stage in (*STAGES, "total")) + "   microseconds")
    for name in RUNTIMES:
        stages = measure(name)
        print_line(f"{name:12} " + " ".join(f"{stages[stage]:13.0f}" for stage in (*STAGES, "total")))
    return 0


def measure(runtime: RuntimeName) -> dict[str, float]:
    """Microseconds of each stage of a request of one row as JSON, and of the whole."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(runtime))


async def _measure(runtime: RuntimeName) -> dict[str, float]:
    spent: Spent = defaultdict(float)
    settings = Settings(models_dir=ROOT / "models", runtime=runtime, log_level="warning")
    app = create_app(settings, open_runtime=_timed(runtime_opener(runtime, device="cpu"), spent))
    request = Lists("").request(_rows())
    head = HEAD.format(model=MODEL) + f"Content-Length: {len(request.body)}\r\n\r\n"
    async with app.router.lifespan_context(app):
        while not app.state.repository.complete:
            await asyncio.sleep(0.1)
        with (
            _timing("service.api.operations.parse", "body parsing", spent),
            _timing("service.api.operations.render", "serialising", spent),
        ):
            return await _take_turns(app, head.encode() + request.body, spent)


async def _take_turns(app: Any, request: bytes, spent: Spent) -> dict[str, float]:
    service, sink = _connection(app, Connection)
    await _answer(service, sink, request)
    if b" 200 OK" not in sink.head:
        raise RuntimeError(f"the service did not answer rightly: {sink.head.decode()}")
    length = int(sink.head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
    echo, echo_sink = _connection(echo_app(b"x" * length), HttpToolsProtocol)
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(WARM + REQUESTS):
        spent.clear()
        total = await _answer(service, sink, request)
        spent["HTTP"] = await _answer(echo, echo_sink, request)
        spent["framework"] = total - sum(spent.values())
        for stage, seconds in (*spent.items(), ("total", total)):
            taken[stage].append(seconds)
    return {stage: statistics.median(seconds[WARM:]) * 1e6 for stage, seconds in taken.items()}


async def _answer(protocol: HttpToolsProtocol, sink: Sink, request: bytes) -> float:
    """Seconds from the request's bytes to the answer's last."""
    sink.answered.clear()
    start = time.perf_counter()
    protocol.data_received(request)
    await sink.answered.wait()
    return time.perf_counter() - start


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
            start = time.perf_counter()
            result = function(*arguments, **named)
            spent[stage] += time.perf_counter() - start
            return result

        return call

    module, _, attribute = name.rpartition(".")
    import importlib

    function = getattr(importlib.import_module(module), attribute)
    with mock.patch(name, timed(function)):
        yield


def _rows() -> Any:
    import numpy as np

    return np.asarray(example_row(), dtype=np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
