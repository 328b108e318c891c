"""Several workers behind one address: even load, and nobody notices when one of them dies."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.spread import connections_of, descendants
from service.machine import usable_cores
from tests.e2e.conftest import DIABOLO, ROOT, Server, serving, wait_until_ready
from tests.e2e.test_shutdown import hammer


@contextlib.contextmanager
def two_workers(models: Path, **settings: str) -> Iterator[Server]:
    """A ready server with two workers. A folder without bundles makes them ready at once."""
    with serving(models, workers="2", log_level="warning", **settings) as server:
        wait_until_ready(server.address)
        yield server
        left = workers(server) if server.process.poll() is None else []
    eventually(lambda: not any(map(alive, left)))


def workers(server: Server) -> list[int]:
    """Their process ids."""
    return sorted(descendants(server.process.pid))


def alive(pid: int) -> bool:
    """True while the process runs; the dead that nobody has asked after do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds; fails when it never does."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.02)


def connect(server: Server) -> HTTPConnection:
    """A connection of one's own."""
    place = urlsplit(server.address)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=30)
    connection.connect()
    return connection


def get(connection: HTTPConnection, path: str = "/livez") -> int:
    """The status of the answer; the connection stays open."""
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def counts(server: Server) -> dict[int, int]:
    """Worker -> connections that it has."""
    return connections_of(workers(server), urlsplit(server.address).port or 0)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Server]:
    """A server without bundles and with two workers."""
    with two_workers(tmp_path) as server:
        yield server


@pytest.mark.parametrize("connections", [4, 16, 64])
def test_connections_are_spread_evenly(pair: Server, connections: int) -> None:
    clients = [connect(pair) for _ in range(connections)]
    assert {get(client) for client in clients} == {200}
    assert list(counts(pair).values()) == [connections // 2] * 2
    for client in clients:
        client.close()


def test_the_place_of_a_connection_that_ended_is_taken_by_the_next(pair: Server) -> None:
    clients = [connect(pair) for _ in range(8)]
    assert {get(client) for client in clients} == {200}
    for client in clients[::2]:  # they came in turns, so all of one worker
        client.close()

    def levelled() -> bool:
        with contextlib.ExitStack() as stack:
            later = [stack.enter_context(contextlib.closing(connect(pair))) for _ in range(4)]
            return {get(client) for client in later} == {200} and list(counts(pair).values()) == [4, 4]

    eventually(levelled)
    for client in clients[1::2]:
        client.close()


def test_a_killed_worker_is_replaced_and_the_connections_of_the_other_see_nothing(pair: Server) -> None:
    killed, survivor = workers(pair)
    clients = [connect(pair) for _ in range(8)]
    assert {get(client) for client in clients} == {200}
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(workers(pair)) == 2 and killed not in workers(pair))
    assert survivor in workers(pair)
    assert counts(pair)[survivor] == 4
    statuses = []
    for client in clients:
        try:
            client.auto_open = 0
            statuses.append(get(client))
        except (OSError, HTTPException):
            statuses.append(0)
    assert sorted(statuses) == [0] * 4 + [200] * 4
    replacement = connect(pair)
    assert get(replacement) == 200
    for client in [*clients, replacement]:
        client.close()


def test_new_connections_are_answered_all_the_while_that_workers_are_killed(pair: Server) -> None:
    for _ in range(3):
        eventually(lambda: len(workers(pair)) == 2)
        victim = workers(pair)[0]
        os.kill(victim, signal.SIGKILL)
        while victim in workers(pair) or len(workers(pair)) < 2:
            with contextlib.closing(connect(pair)) as client:
                assert get(client) == 200


def test_a_killed_worker_takes_with_it_what_it_was_answering_and_nothing_else(shipped: Path) -> None:
    outcomes: list[Counter[str]] = [Counter() for _ in range(8)]
    stop = threading.Event()
    with two_workers(shipped) as server:
        clients = [threading.Thread(target=hammer, args=(server, own, stop)) for own in outcomes]
        for client in clients:
            client.start()
        eventually(lambda: all(own["whole"] > 2 for own in outcomes))
        os.kill(workers(server)[0], signal.SIGKILL)
        before = sum(own["whole"] for own in outcomes)
        eventually(lambda: sum(own["whole"] for own in outcomes) > before + 40)
        stop.set()
        for client in clients:
            client.join(timeout=20)
    lost = [own for own in outcomes if set(own) != {"whole"}]
    assert len(lost) <= 4, "one request at most of each connection that it had"
    assert {outcome for own in lost for outcome in own} <= {"whole", "closed before an answer", "half"}
    assert all(own.total() - own["whole"] == 1 for own in lost)


def test_connections_that_a_hung_worker_has_not_taken_go_to_another(tmp_path: Path) -> None:
    with two_workers(tmp_path, heartbeat_seconds="3") as server:
        hung, _ = workers(server)
        os.kill(hung, signal.SIGSTOP)
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.request("GET", "/livez")
        assert {client.getresponse().status for client in clients} == {200}
        eventually(lambda: len(workers(server)) == 2 and hung not in workers(server))
        for client in clients:
            client.close()


def with_refused(shipped: Path, folder: Path, *others: str) -> Path:
    """The folder has one bundle that is refused, and these."""
    for name in ("fashion-linear", *others):
        shutil.copytree(shipped / name / "1", folder / name / "1")
    (folder / "fashion-linear" / "1" / "model.pt").write_bytes(b"")
    return folder


def test_a_worker_that_hangs_is_replaced_though_a_bundle_beside_a_good_one_is_refused(
    tmp_path: Path, shipped: Path
) -> None:
    def loaded(client: HTTPConnection) -> bool:
        client.request("GET", "/readyz")
        state = json.loads(client.getresponse().read())
        return bool(state["scanned"]) and state["serving"] == ["fashion-vae/1"] and not state["ready"]

    models = with_refused(shipped, tmp_path, "fashion-vae")
    with serving(models, workers="2", log_level="error", heartbeat_seconds="3") as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(2)]
            eventually(lambda: all(map(loaded, clients)))
        time.sleep(0.5)  # in which the supervisor hears of it, as it does ten times a second
        hung, survivor = workers(server)
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: len(workers(server)) == 2 and hung not in workers(server))
        assert survivor in workers(server)


def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(pair: Server) -> None:
    told, _ = workers(pair)
    clients = [connect(pair) for _ in range(4)]
    assert {get(client) for client in clients} == {200}
    os.kill(told, signal.SIGTERM)
    while told in workers(pair):
        with contextlib.closing(connect(pair)) as client:
            assert get(client) == 200
    eventually(lambda: len(workers(pair)) == 2)
    for client in clients:
        client.close()


def test_sigterm_turns_all_workers_not_ready_first_and_ends_with_0(tmp_path: Path) -> None:
    with two_workers(tmp_path, drain_delay="1") as server:
        clients = [connect(server) for _ in range(4)]
        assert {get(client, "/readyz") for client in clients} == {200}
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: {get(client, "/readyz") for client in clients} == {503})
        with contextlib.closing(connect(server)) as late:
            assert get(late) == 200
        assert server.process.wait(timeout=20) == 0
        assert server.process.stdout is not None
        assert "Diabolo serves" not in server.process.stdout.read()
        for client in clients:
            client.close()


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    with two_workers(tmp_path, drain_delay="3600") as server:
        running = workers(server)
        server.process.send_signal(signal.SIGINT)
        with contextlib.closing(connect(server)) as client:
            eventually(lambda: get(client, "/readyz") == 503)
        assert all(map(alive, running))
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=10)
        eventually(lambda: not any(map(alive, running)))


def test_no_worker_outlives_a_killed_supervisor(pair: Server) -> None:
    running = workers(pair)
    assert len(running) == 2
    pair.process.send_signal(signal.SIGKILL)
    eventually(lambda: not any(map(alive, running)))


def test_cores_are_divided_among_the_workers(pair: Server) -> None:
    share = max(1, usable_cores() // 2)
    for pid in workers(pair):
        assert f"OMP_NUM_THREADS={share}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.mark.parametrize("count", ["1", "2"])
def test_who_sets_a_heartbeat_for_one_worker_hears_that_nobody_listens_to_it(
    tmp_path: Path, count: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, workers=count, heartbeat_seconds="60"):
        assert ("DIABOLO_HEARTBEAT_SECONDS changes nothing" in capfd.readouterr().err) == (count == "1")


def end_of(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """How two workers end that cannot start."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    command = [*DIABOLO, "serve", "--workers", "2", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean | variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_workers_that_cannot_start_at_all_are_exit_code_3(tmp_path: Path, shipped: Path) -> None:
    models = with_refused(shipped, tmp_path)
    ended = end_of("--port", "0", DIABOLO_STRICT="1", DIABOLO_MODELS_DIR=str(models))
    assert ended.returncode == 3
    assert "size-mismatch" in ended.stderr
    assert "Diabolo serves" not in ended.stdout


def test_a_taken_port_is_one_clear_line_and_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = end_of("--port", str(taken.getsockname()[1]), DIABOLO_MODELS_DIR=str(tmp_path))
    assert ended.returncode == 3
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
