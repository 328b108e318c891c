"""Who has acknowledged: live workers count, dead ones do not, however they died."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.engine.acknowledgements import FOLDER, Acknowledgement, Acknowledger, acknowledgements, pending

HERE = f"{socket.gethostname()}/{os.getpid()}"
WORKER = """
import pathlib, sys
from service.engine.acknowledgements import Acknowledger
worker = Acknowledger(pathlib.Path(sys.argv[1]))
worker.write(3, {})
print(flush=True)
sys.stdin.read()
"""


def test_a_worker_is_pending_until_it_has_read_the_revision_and_serves_the_name(tmp_path: Path) -> None:
    worker = Acknowledger(tmp_path)
    assert pending(tmp_path, "tiny", revision=1) == {}, "it has not started yet"
    worker.write(-1, {})
    assert pending(tmp_path, "tiny", revision=0) == {HERE: "it has not read this yet"}
    worker.write(0, {})
    assert pending(tmp_path, "tiny", revision=1) == {HERE: "it has not read this yet"}
    worker.write(1, {"tiny": "version 2 is being loaded", "wide": "version 9 is not in the folder"})
    assert pending(tmp_path, "tiny", revision=1) == {HERE: "version 2 is being loaded"}
    worker.write(2, {"wide": "version 9 is not in the folder"})
    assert pending(tmp_path, "tiny", revision=1) == {}
    assert acknowledgements(tmp_path) == [
        Acknowledgement(worker=HERE, revision=2, unmet={"wide": "version 9 is not in the folder"})
    ]
    worker.close()
    worker.close()
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_killed_worker_does_not_count_and_its_file_is_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=-1)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        waiting = pending(tmp_path, "tiny", revision=4)
        assert waiting == {f"{socket.gethostname()}/{process.pid}": "it has not read this yet"}
        process.send_signal(signal.SIGSTOP)
        assert pending(tmp_path, "tiny", revision=4) == waiting, "one that stands still lives"
        process.kill()
        process.wait()
        assert pending(tmp_path, "tiny", revision=4) == {}
        assert list((tmp_path / FOLDER).iterdir()) == []


def test_two_workers_are_told_apart_though_they_are_one_process(tmp_path: Path) -> None:
    first, second = Acknowledger(tmp_path), Acknowledger(tmp_path)
    first.write(1, {})
    second.write(2, {})
    assert sorted(found.revision for found in acknowledgements(tmp_path)) == [1, 2]
    first.close()
    second.close()


def test_what_is_read_while_it_is_written_is_not_taken_for_an_acknowledgement(tmp_path: Path) -> None:
    worker = Acknowledger(tmp_path)
    worker.write(7, {})
    (file,) = (tmp_path / FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert list(pending(tmp_path, "tiny", revision=0).values()) == ["it has not read this yet"]
    worker.write(8, {})
    assert pending(tmp_path, "tiny", revision=8) == {}
    worker.close()


def test_a_worker_whose_file_was_tidied_away_comes_back(tmp_path: Path) -> None:
    worker = Acknowledger(tmp_path)
    worker.write(1, {})
    for file in (tmp_path / FOLDER).iterdir():
        file.unlink()
    worker.write(1, {})
    assert [found.revision for found in acknowledgements(tmp_path)] == [1]
    worker.close()


def test_a_folder_that_is_gone_is_an_error_of_the_disk_and_not_of_the_worker(tmp_path: Path) -> None:
    worker = Acknowledger(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        worker.write(1, {})
    worker.close()
    assert acknowledgements(tmp_path / "gone") == []
