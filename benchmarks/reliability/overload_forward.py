"""Overload of a bundle whose forward pass is what takes time: twenty milliseconds a row."""

import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.busy import publish_busy
from benchmarks.reliability.log import Log
from benchmarks.reliability.overload import DEADLINE, outcome, overload
from benchmarks.reliability.questions import question
from benchmarks.reliability.row import Outcome, Row
from benchmarks.reliability.service import serving
from bundle.operations import Operation
from service.settings import Settings

__all__ = ["ROW"]

# What somebody sets who knows that a row takes 20 ms and an answer may take a second.
SETTINGS: dict[str, Any] = {"workers": 2, "max_batch_rows": 4, "max_rows": 16, "max_pending_rows": 32}


def measure() -> Outcome:
    """Scores of one row."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        bundle = publish_busy(models)
        questions = [
            question({1: bundle}, Operation.ANOMALY_SCORE, count=1, first=first, fields=DEADLINE) for first in range(4)
        ]
        with serving(models, **SETTINGS) as service:
            phases, whole = uvloop.run(overload(service, questions))
        log = Log.read(service.log)
    shown = ", ".join(f"`DIABOLO_{name.upper()}={value}`" for name, value in SETTINGS.items())
    found = outcome(
        phases,
        whole,
        setting="A bundle whose ONNX computes for 20 ms a row, however many share a pass, as measured when it is "
        f"published; one row a request as .npy; {shown}",
        settings=Settings(**SETTINGS),
        row_bytes=4 * bundle.manifest.input.size,
    )
    return log.added_to(found)


ROW = Row(
    name="overload-forward",
    title="Four times saturation, a forward pass of 20 ms",
    goal="goodput >= 90 % of its peak, accepted p99 within the deadline, memory bounded, normal within 2 s after",
    measure=measure,
)
