"""The supervisor's decisions: how many workers, when a dead one is replaced, who gets a connection."""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

from service import machine, supervisor
from service.listening import listen
from service.machine import usable_cores
from service.settings import Settings
from service.supervisor import Supervisor, next_pause, worker_count

CORES = usable_cores()

# A worker that knows how many there were before it.
LIFE = """
import pathlib, socket, sys, time
from service.channel import Report
channel = socket.socket(fileno=int(sys.argv[2]))
channel.recv(2**16)
lives = pathlib.Path(sys.argv[1])
life = len(list(lives.iterdir()))
(lives / str(life)).touch()

def say(**how):
    channel.send(Report(0, 0, **{"scanned": True, "complete": True, "leaving": False, **how}).packed())

def wait_for_the_end():
    while channel.recv(2**16):
        pass
"""
# Dies in the way that the number of its life says; the last one lives until it is told to end.
MORTAL = """
if life in (0, 4, 6):
    say(scanned=life != 0, complete=False)
if life == 6:
    wait_for_the_end()
sys.exit(7)
"""
# The first one hangs.
HANGING = """
say(complete=False)
if life == 0:
    time.sleep(60)
wait_for_the_end()
"""
# The first one is told to end by somebody else, and hangs.
LEAVING = """
say(leaving=life == 0)
if life == 0:
    time.sleep(60)
wait_for_the_end()
"""


def live(script: str, folder: Path, lives: int, **settings: float) -> int:
    """The exit code of a supervisor of one worker that runs `script`, told to end once there were so many lives."""
    lived = folder / "lives"
    lived.mkdir()
    command = [sys.executable, "-c", LIFE + script, str(lived)]

    async def run() -> int:
        given = Settings(models_dir=folder, **settings)  # type: ignore[arg-type]  # as from the environment
        running = asyncio.create_task(Supervisor(given, listen("127.0.0.1", 0), workers=1, command=command).run())
        async with asyncio.timeout(30):
            while len(list(lived.iterdir())) < lives:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return await running

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("settings", "gpu", "count"),
    [
        ({"workers": 7}, True, 7),
        ({"workers": 1}, False, 1),
        ({"device": "cuda:1"}, False, 1),
        ({"device": "auto"}, True, 1),
        ({"device": "auto"}, False, min(CORES, 4)),
        ({"device": "cpu"}, True, min(CORES, 4)),
        ({"runtime": "onnx"}, True, min(CORES, 4)),
    ],
)
def test_a_gpu_has_one_worker_and_a_cpu_one_for_each_core_unless_told(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], gpu: bool, count: int
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr(machine, "GPU_NODES", ("/dev/null" if gpu else "/dev/none",))
    assert worker_count(Settings(**settings)) == count  # type: ignore[arg-type]  # as from the environment


def test_workers_that_die_at_start_are_replaced_ever_more_slowly_and_others_at_once() -> None:
    pauses = list(itertools.accumulate([False] * 8, lambda last, proven: next_pause(last, proven=proven), initial=0.0))
    assert pauses == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert next_pause(30, proven=True) == 0


def test_a_worker_that_dies_again_and_again_is_started_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []

    def noted(last: float, *, proven: bool) -> float:
        pauses.append(next_pause(last, proven=proven))
        return pauses[-1] / 100  # nobody waits in a test

    monkeypatch.setattr(supervisor, "next_pause", noted)
    assert live(MORTAL, tmp_path, 7) == 0
    assert len(pauses) == 6
    assert [pause > 0 for pause in pauses] == [True, True, True, True, False, True]


def test_a_worker_that_hangs_is_replaced_though_a_bundle_was_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert live(HANGING, tmp_path, 2, heartbeat_seconds=0.5) == 0
    assert "has not been heard of for" in caplog.text


def test_a_worker_that_hangs_when_somebody_has_told_it_to_end_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LATE_SECONDS", 0.2)
    assert live(LEAVING, tmp_path, 2, drain_seconds=0) == 0
    assert "did not end in time and is killed" in caplog.text
