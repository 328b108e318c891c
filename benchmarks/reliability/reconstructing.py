"""One row as JSON there and back: what the rows of the page ask whose measure is the service rather than the work."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.bundles import publish, shipped
from benchmarks.reliability.question import JSON, Question
from benchmarks.reliability.questions import question
from benchmarks.reliability.service import Service, serving
from bundle.operations import Operation
from bundle.read import Bundle

__all__ = ["reconstructing", "reconstructions"]

DIFFERENT = 16


@contextmanager
def reconstructing(network: str) -> Iterator[tuple[Service, list[Question]]]:
    """The service with two workers and this bundle alone, and reconstructions to ask it for."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        questions = reconstructions({1: publish(shipped(network), models)})
        with serving(models) as service:
            yield service, questions


def reconstructions(versions: Mapping[int, Bundle], *, name: str | None = None) -> list[Question]:
    """Reconstructions of different rows, by any of these versions."""
    return [
        question(versions, Operation.RECONSTRUCT, count=1, first=first, name=name, media=(JSON, JSON))
        for first in range(DIFFERENT)
    ]
