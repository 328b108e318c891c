"""Overload by large JSON bodies, which take longer to read and to write than to compute."""

import dataclasses
import tempfile
from pathlib import Path

import uvloop

from benchmarks.reliability.bundles import publish, shipped
from benchmarks.reliability.log import Log
from benchmarks.reliability.overload import DEADLINE, outcome, overload
from benchmarks.reliability.question import JSON
from benchmarks.reliability.questions import question
from benchmarks.reliability.refusing import refusing
from benchmarks.reliability.row import Outcome, Row
from benchmarks.reliability.service import serving
from benchmarks.reliability.tally import Verdict
from bundle.operations import Operation
from service.settings import Settings

__all__ = ["ROW"]

NETWORK, ROWS_IN_REQUEST, WORKERS = "fashion-vae", 64, 2


def measure() -> Outcome:
    """Reconstructions of 64 rows."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        bundle = publish(shipped(NETWORK), models)
        questions = [
            question(
                {1: bundle},
                Operation.RECONSTRUCT,
                count=ROWS_IN_REQUEST,
                first=first,
                media=(JSON, JSON),
                fields=DEADLINE,
            )
            for first in range(4)
        ]
        with serving(models, workers=WORKERS) as service:
            phases, whole = uvloop.run(overload(service, questions))
        log = Log.read(service.log)
        over = phases[-2]
        seconds = over.end - over.start
        cost = refusing(models, questions, rate=len(over.tally) / seconds)
        told = cost.told(refused=over.tally.count(Verdict.REFUSED) / seconds)
    size = len(questions[0].request) // 1000
    found = outcome(
        phases,
        whole,
        setting=f"Two workers with default settings; {NETWORK} reconstructs {ROWS_IN_REQUEST} rows a request, as "
        f"JSON there ({size} kB) and back",
        settings=Settings(workers=WORKERS),
        row_bytes=4 * bundle.manifest.input.size,
    )
    return log.added_to(dataclasses.replace(found, notes=(*found.notes, told)))


ROW = Row(
    name="overload-w2",
    title="Four times saturation, 64 rows of JSON a request (W2)",
    goal="goodput >= 90 % of its peak, accepted p99 within the deadline, memory bounded, normal within 2 s after",
    measure=measure,
)
