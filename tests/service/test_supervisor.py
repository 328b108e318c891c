"""The supervisor's decisions: how many workers, when a dead one is replaced, who gets a connection."""

import asyncio
import itertools
import os
import sys
from pathlib import Path

import pytest

from service import machine, supervisor
from service.listening import listen
from service.settings import Settings
from service.supervisor import Supervisor, next_pause, worker_count

CORES = len(os.sched_getaffinity(0))

# Dies in the way that the number of its life says; the last one lives until it is told to end.
MORTAL = """
import pathlib, socket, sys
from service.channel import Report
channel = socket.socket(fileno=int(sys.argv[2]))
channel.recv(2**16)
lives = pathlib.Path(sys.argv[1])
life = len(list(lives.iterdir()))
(lives / str(life)).touch()
if life in (0, 4, 6):
    channel.send(Report(0, 0, complete=life != 0, leaving=False).packed())
while life == 6 and channel.recv(2**16):
    pass
sys.exit(7)
"""


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
    lives = tmp_path / "lives"
    lives.mkdir()
    command = [sys.executable, "-c", MORTAL, str(lives)]

    async def until_the_last_life() -> int:
        running = Supervisor(Settings(models_dir=tmp_path), listen("127.0.0.1", 0), workers=1, command=command)
        result = asyncio.create_task(running.run())
        while len(list(lives.iterdir())) < 7:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), 15)
        return await result

    assert asyncio.run(until_the_last_life()) == 0
    assert len(pauses) == 6
    assert [pause > 0 for pause in pauses] == [True, True, True, True, False, True]
