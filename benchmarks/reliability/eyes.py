"""A connection to every worker, to see what each of them serves; and which worker has which connection."""

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.reliability.service import Service

__all__ = ["Eyes", "holders", "watching"]

MOST_TRIES = 200
LOOK_SECONDS = 0.1


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
    """A connection to each worker of the service. Raises RuntimeError where one gets none."""
    opened: list[http.client.HTTPConnection] = []
    by_worker: dict[int, http.client.HTTPConnection] = {}
    workers = service.workers()
    try:
        while len(by_worker) < len(workers):
            if len(opened) == MOST_TRIES:
                raise RuntimeError(f"{MOST_TRIES} connections did not reach every worker")
            opened.append(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30))
            opened[-1].request("GET", "/livez")
            opened[-1].getresponse().read()
            held = holders(workers, service.port)
            by_worker |= {held[one.sock.getsockname()[1]]: one for one in opened[-1:]}
        yield Eyes(by_worker)
    finally:
        for connection in opened:
            connection.close()


def holders(pids: Iterable[int], port: int) -> dict[int, int]:
    """Port of the client's end -> process that holds the service's end, for the connections to `port` of this machine
    that these processes hold."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    ends = {f"socket:[{row[9]}]": _port(row[2]) for row in rows if _port(row[1]) == port}
    found = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                target = str(descriptor.readlink())
                if target in ends:
                    found[ends[target]] = pid
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
