"""`make docker-test`: the images and docker-compose.yml on a real engine, step by step; a table of what was counted.

Not part of the suite: it needs a Docker engine, the images that docker-compose.yml is made from, and some minutes.
TORCH_VERSION and TORCH_INDEX are those of the Dockerfile. What it builds is called diabolo-docker-test and stays, for
the next run to build faster.
"""

import json
import sys
import time
import traceback

from tests.docker.engine import ROOT, Project, Refused, docker
from tests.docker.steps import PROFILES, STEPS

__all__ = ["main"]

FIGURES = ROOT / "docs" / "containers.json"


def main() -> int:
    """Runs all steps until one fails, and takes everything away; 0 when none failed."""
    try:
        docker("info")
    except (OSError, Refused) as error:
        _say(f"make docker-test needs a running Docker engine: {error}")
        return 1
    project = Project()
    rows: list[dict[str, object]] = []
    failed = False
    try:
        project.remove()
        for step in STEPS:
            begun = time.monotonic()
            _say(f"... {step.__name__}: {step.__doc__}")
            try:
                counted = step(project)
            except Exception:  # whatever failed, the containers' last words are shown and all is cleaned up
                failed = True
                _say(traceback.format_exc())
                _say(project.compose(*PROFILES, "logs", "--no-color", "--tail", "30"))
                counted = "FAILED"
            rows.append({"step": step.__name__, "seconds": round(time.monotonic() - begun), "counted": counted})
            if failed:
                break
    finally:
        project.remove()
    _say(_table(rows))
    if not failed:
        FIGURES.write_text(json.dumps({"steps": rows}, indent=2) + "\n")
    return int(failed)


def _table(rows: list[dict[str, object]]) -> str:
    lines = [f"| {row['step']} | {row['seconds']} | {row['counted']} |" for row in rows]
    return "\n".join(["| step | s | counted |", "|---|---:|---|", *lines])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
