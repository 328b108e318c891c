"""Pins, loads and unloads with real workers: all answer the same, whoever died meanwhile, and after a restart too."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.bundle_factory import rewrite_manifest
from tests.e2e.conftest import DIABOLO, ROOT, Server
from tests.e2e.test_workers import connect, counts, eventually, two_workers, workers
from tests.key_files import KEY, write_keys

NAME = "fashion-linear"
FIELDS = {"X-API-Key": KEY}


@pytest.fixture(scope="module")
def models(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions of a bundle."""
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        shutil.copytree(shipped / NAME / "1", folder / NAME / str(version))
    rewrite_manifest(folder / NAME / "2", lambda fields: fields.update(version=2))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of state, which the service makes."""
    return tmp_path / "state"


def settings(state: Path) -> dict[str, str]:
    """Those of a service that keeps state and can be administered."""
    return {"state_dir": str(state), "api_keys_file": str(write_keys(state.parent / "keys.json"))}


@pytest.fixture
def pair(models: Path, state: Path) -> Iterator[Server]:
    """Two workers that keep state."""
    with two_workers(models, **settings(state)) as server:
        yield server


def administer(connection: HTTPConnection, verb: str, **parameters: str) -> tuple[int, dict[str, Any]]:
    """Status and answer."""
    connection.request("POST", f"/v2/repository/models/{NAME}/{verb}", json.dumps({"parameters": parameters}), FIELDS)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def answering(connection: HTTPConnection) -> int | None:
    """The version that answers on this connection; None where the name is not found."""
    connection.request("GET", f"/v1/models/{NAME}", headers=FIELDS)
    response = connection.getresponse()
    version: int | None = json.loads(response.read()).get("version")
    return version


def everywhere(server: Server) -> set[int | None]:
    """The versions that answer, in all workers."""
    eventually(lambda: not any(counts(server).values()))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(4)]
        found = {answering(client) for client in clients}
        assert all(counts(server).values()), "all of them were asked"
        return found


def test_after_the_answer_all_workers_serve_what_was_asked_for_also_after_a_restart(
    pair: Server, models: Path, state: Path
) -> None:
    assert everywhere(pair) == {2}
    with contextlib.closing(connect(pair)) as client:
        status, answer = administer(client, "load", version="1")
        assert (status, answer["version"], answer["pending"]) == (200, "1", [])
    assert everywhere(pair) == {1}
    with contextlib.closing(connect(pair)) as client:
        assert administer(client, "unload")[0] == 200
    assert everywhere(pair) == {None}
    with contextlib.closing(connect(pair)) as client:
        assert administer(client, "load")[0] == 200
    assert everywhere(pair) == {1}, "the pin has outlived the unload"
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(timeout=30) == 0
    assert list((state / "workers").iterdir()) == []
    with two_workers(models, **settings(state)) as restarted:
        assert everywhere(restarted) == {1}


def test_a_worker_that_stands_still_is_named_and_one_that_dies_does_not_count(pair: Server) -> None:
    with contextlib.closing(connect(pair)) as client:
        assert answering(client) == 2
        (still,) = (worker for worker, connections in counts(pair).items() if not connections)
        os.kill(still, signal.SIGSTOP)
        status, answer = administer(client, "load", version="1")
        assert status == 202
        assert [pending["worker"].rpartition("/")[2] for pending in answer["pending"]] == [str(still)]
        assert answering(client) == 1
        os.kill(still, signal.SIGKILL)
        eventually(lambda: administer(client, "load", version="1")[0] == 200)
        eventually(lambda: len(workers(pair)) == 2 and still not in workers(pair))
        eventually(lambda: administer(client, "load", version="1")[0] == 200)


def command(*arguments: str, models: Path, state: Path) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    variables |= {"DIABOLO_MODELS_DIR": str(models), "DIABOLO_STATE_DIR": str(state)}
    return subprocess.run(
        [*DIABOLO, "models", *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_pins_and_unloads_in_all_workers(pair: Server, models: Path, state: Path) -> None:
    pinned = command("pin", NAME, "1", models=models, state=state)
    assert (pinned.returncode, pinned.stdout) == (0, f"{NAME}: version 1 is pinned, in 2 workers\n"), pinned.stderr
    assert everywhere(pair) == {1}
    listed = command(models=models, state=state).stdout.splitlines()
    assert [line.endswith("(pinned)") for line in listed] == [True, False]
    assert command("unload", NAME, models=models, state=state).stdout == f"{NAME}: it is unloaded, in 2 workers\n"
    assert everywhere(pair) == {None}
    assert command("unpin", NAME, models=models, state=state).returncode == 0
    assert everywhere(pair) == {2}
    assert command("load", NAME, models=models, state=state).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pin", NAME, "9"), f"diabolo models pin: {NAME} has no version 9; it has 1, 2, 3"),
        (("pin", NAME, "3"), f"diabolo models pin: {NAME} cannot be served; version 3: size-mismatch: "),
        (("pin", "nobody", "1"), "diabolo models pin: there is no bundle nobody in "),
        (("load", "nobody"), "diabolo models load: there is no bundle nobody in "),
        (("unload", "nobody"), "diabolo models unload: there is no bundle nobody in "),
        (("unpin", "nobody"), "diabolo models unpin: there is no bundle nobody in "),
    ],
)
def test_what_cannot_be_is_said_by_the_command_in_one_line_and_changes_nothing(
    models: Path, state: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    shutil.copytree(models, tmp_path / "models")
    damaged = tmp_path / "models" / NAME / "3"
    shutil.copytree(models / NAME / "1", damaged)
    rewrite_manifest(damaged, lambda fields: fields.update(version=3))
    (damaged / "model.pt").write_bytes(b"")
    state.mkdir()
    ended = command(*arguments, models=tmp_path / "models", state=state)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(says)
    assert len(ended.stderr.splitlines()) == 1
    assert list(state.iterdir()) == []


def test_the_command_needs_to_know_where_the_state_is(models: Path, state: Path) -> None:
    ended = command("pin", NAME, "1", models=models, state=state)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"diabolo models pin: there is no folder {state}; the service makes it when it starts with DIABOLO_STATE_DIR\n",
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    ended = subprocess.run(
        [*DIABOLO, "models", "pin", NAME, "1"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        1,
        "diabolo models pin: name the service's folder of state: --state-dir, or DIABOLO_STATE_DIR\n",
    )


def test_tritons_client_loads_and_unloads(pair: Server) -> None:
    client = triton.InferenceServerClient(pair.address.removeprefix("http://"))
    assert "model_repository" in client.get_server_metadata(FIELDS)["extensions"]
    client.unload_model(NAME, FIELDS)
    assert not client.is_model_ready(NAME, headers=FIELDS)
    assert {entry["reason"] for entry in client.get_model_repository_index(FIELDS)} == {"unloaded"}
    client.load_model(NAME, FIELDS)
    assert client.is_model_ready(NAME, headers=FIELDS)
    with pytest.raises(InferenceServerException, match="no model is called 'nobody'"):
        client.load_model("nobody", FIELDS)
