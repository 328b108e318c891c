"""The service as `diabolo serve --workers 2` runs it, whose workers write down how many asyncio tasks they have when
SIGUSR1 asks them: what a leak of tasks is measured by."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from service.logs import configure_logs
from service.settings import Settings
from service.supervisor import supervise
from service.worker import main as work

__all__ = ["COMMAND", "FOLDER", "tasks_of"]

FOLDER = "RELIABILITY_FOLDER"
COMMAND = [sys.executable, "-m", "benchmarks.reliability.counting"]
PATIENCE_SECONDS = 30.0


def tasks_of(pid: int, folder: Path) -> int:
    """How many tasks the worker has. `folder` is the environment's FOLDER. Raises TimeoutError."""
    path = folder / f"{pid}.tasks"
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    end = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"worker {pid} does not say how many tasks it has")
        time.sleep(0.01)
    return int(path.read_text())


def main() -> NoReturn:
    """The supervisor, or with `worker` and the number of its channel a worker."""
    if sys.argv[1:2] != ["worker"]:
        settings = Settings()
        configure_logs(settings)
        supervise(settings, settings.workers, command=[*COMMAND, "worker"])
    del sys.argv[1]
    signal.signal(signal.SIGUSR1, lambda *_: _write_down())
    work()
    raise SystemExit(0)


def _write_down() -> None:
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}.tasks"
    unfinished = path.with_suffix(".new")
    unfinished.write_text(str(len(asyncio.all_tasks())))
    unfinished.rename(path)


if __name__ == "__main__":
    main()
