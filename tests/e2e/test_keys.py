"""`diabolo keys` and the workers that follow its file."""

import contextlib
import os
import stat
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.e2e.conftest import DIABOLO, ROOT, Server
from tests.e2e.test_workers import connect, counts, eventually, two_workers


def command(*arguments: str, file: Path | None) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    if file is not None:
        variables["DIABOLO_API_KEYS_FILE"] = str(file)
    return subprocess.run(
        [*DIABOLO, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def status(connection: HTTPConnection, key: str) -> int:
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    response.read()
    return response.status


def statuses(server: Server, key: str) -> set[int]:
    """Of all workers."""
    eventually(lambda: not any(counts(server).values()))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(4)]
        found = {status(client, key) for client in clients}
        assert all(counts(server).values()), "all of them were asked"
        return found


def test_both_workers_know_a_key_that_is_added_and_forget_one_that_is_removed(tmp_path: Path) -> None:
    file, models = tmp_path / "keys.json", tmp_path / "models"
    models.mkdir()
    made = command("keys", "add", "first", "--scope", "infer", "--scope", "metrics", "--rate", "1000", file=file)
    assert (made.returncode, made.stderr) == (0, "")
    first = made.stdout.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with two_workers(models, api_keys_file=str(file), poll_seconds="0.1") as server:
        assert statuses(server, first) == {200}
        assert statuses(server, "diabolo_unknown") == {401}
        second = command("keys", "add", "second", file=file).stdout.strip()
        eventually(lambda: statuses(server, second) == {200})
        listed = command("keys", "list", file=file).stdout
        assert [line.split() for line in listed.splitlines()] == [
            ["first", "infer,", "metrics", "1000/s,", "burst", "1000"],
            ["second", "infer"],
        ]
        assert first not in listed
        file.write_text("{")
        assert command("keys", "list", file=file).returncode == 1
        assert statuses(server, second) == {200}, "the last good keys stay in force"
        file.unlink()
        third = command("keys", "add", "third", file=file).stdout.strip()
        eventually(lambda: statuses(server, third) == {200})
        assert statuses(server, first) == {401}
        assert command("keys", "remove", "third", file=file).stdout == "third: removed\n"
        eventually(lambda: statuses(server, third) == {401})


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("keys", "list"), 1, "diabolo keys list: it cannot be read: No such file or directory\n"),
        (("keys", "add", "a b"), 1, "diabolo keys add: a name has letters, digits, dots, hyphens and underscores"),
        (("keys", "add", "a", "--scope", "root"), 2, "root is none of infer, admin, metrics"),
        (("keys", "add", "a", "--burst", "2"), 2, "--burst needs --rate"),
        (("keys", "add", "a", "--rate", "inf"), 2, "a finite number"),
    ],
)
def test_what_cannot_be_is_said_and_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ended = command(*arguments, file=tmp_path / "keys.json")
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in " ".join(ended.stderr.split(" "))
    assert not (tmp_path / "keys.json").exists()


def test_the_service_does_not_start_with_a_file_that_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("[]")
    ended = command("serve", "--port", "0", file=file)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"DIABOLO_API_KEYS_FILE: {file}: ")
