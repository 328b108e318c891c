"""A connection to every worker, to see what each of them serves; and which worker has which connection."""

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.reliability.service import Service

__all__ = ["Eyes", "holders", "seen_everywhere", "watching"]

MOST_CONNECTIONS, PATIENCE_SECONDS, PASSING_SECONDS = 4_000, 60.0, 0.05
LOOK_SECONDS, PASSED_ON_SECONDS = 0.1, 5.0
# A slow machine is no fault of the service's: what a soak claims is that nothing is lost, not how soon it comes.
SOAK_SECONDS = 120.0


class Eyes:
    """One connection to each worker, by process id. To be used by one thread at a time."""

    def __init__(self, connections: Mapping[int, http.client.HTTPConnection]) -> None:
        self._connections = connections

    def everywhere(self, path: str) -> list[tuple[int, Any]]:
        """Every worker's answer to a GET: status and JSON. Raises OSError or HTTPException where there is none."""
        found = []
        for connection in self._connections.values():
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read()
            found.append((answer.status, json.loads(content)))
        return found

    def wait(self, path: str, until: Callable[[int, Any], bool], *, seconds: float = 30.0) -> float:
        """How many seconds it took until every worker's answer was such. Raises TimeoutError."""
        start = time.monotonic()
        while not all(until(status, document) for status, document in self.everywhere(path)):
            if time.monotonic() - start > seconds:
                raise TimeoutError(f"after {seconds:g} s {path} is {self.everywhere(path)}"[:500])
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - start


@contextmanager
def watching(service: Service) -> Iterator[Eyes]:
    """A connection to each worker of the service. Raises RuntimeError where one gets none.

    A worker that has many connections gets a new one only once the others have as many.
    """
    opened: list[http.client.HTTPConnection] = []
    by_worker: dict[int, http.client.HTTPConnection] = {}
    workers = service.workers()
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        while len(by_worker) < len(workers):
            if time.monotonic() > end or len(opened) > MOST_CONNECTIONS:
                raise RuntimeError(f"{len(opened)} connections reached {len(by_worker)} of {len(workers)} workers")
            for _ in range(max(len(workers), len(opened))):
                opened.append(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30))
                opened[-1].connect()
            held = _passed_on(opened, workers, service.port)
            by_worker = {held[port]: one for one in opened if (port := _own_port(one)) in held}
        for connection in set(opened) - set(by_worker.values()):
            connection.close()
        yield Eyes(by_worker)
    finally:
        for connection in opened:
            connection.close()


def seen_everywhere(service: Service, path: str, until: Callable[[int, Any], bool]) -> None:
    """Every worker's answer was such. Raises TimeoutError.

    Where one worker takes longer to answer than the others keep a silent connection open, or than they take to get as
    many connections as can be opened, it is tried anew.
    """
    end = time.monotonic() + SOAK_SECONDS
    while True:
        try:
            with watching(service) as eyes:
                eyes.wait(path, until, seconds=end - time.monotonic())
                return
        except (ConnectionError, RuntimeError):
            if time.monotonic() > end:
                raise


def holders(pids: Iterable[int], port: int) -> dict[int, int]:
    """Port of the client's end -> process that holds the service's end, for the connections to `port` of this machine
    that these processes hold."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    ends = {f"socket:[{row[9]}]": _port(row[2]) for row in rows if _port(row[1]) == port and _port(row[2])}
    found = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                target = str(descriptor.readlink())
                if target in ends:
                    found[ends[target]] = pid
    return found


def _passed_on(opened: Sequence[http.client.HTTPConnection], workers: Sequence[int], port: int) -> Mapping[int, int]:
    """`holders`, once each of the connections has a worker, or after a while."""
    end = time.monotonic() + PASSED_ON_SECONDS
    while True:
        time.sleep(PASSING_SECONDS)
        held = holders(workers, port)
        if time.monotonic() > end or all(_own_port(one) in held for one in opened):
            return held


def _own_port(connection: http.client.HTTPConnection) -> int:
    port: int = connection.sock.getsockname()[1]
    return port


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
