"""Repositories over folders of tiny bundles, and ways to spoil those."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np

from bundle.calibration import Floats
from bundle.golden import Expected, Golden
from bundle.manifest import FeatureStatistics, InputSpec, LatentSpec, Score
from bundle.operations import Method, Operation
from service.engine.loaded import LoadedModel
from service.engine.repository import Repository
from service.engine.runtimes import OpenRuntime
from tests.bundle_factory import make_files, publish, run
from tests.service.programs import PATIENCE, FakeRuntime

__all__ = ["WIDE", "publish_wide", "refusals", "repository_of", "run_wide", "truncate", "until"]

WIDE = 6


@contextlib.asynccontextmanager
async def repository_of(
    root: Path,
    open_runtime: OpenRuntime = lambda _: FakeRuntime(run),
    *,
    refresh: bool = True,
    drain_seconds: float = PATIENCE,
) -> AsyncIterator[Repository]:
    """The repository of this folder, which it has gone through once unless told not to; closed at the end."""
    repository = Repository(
        root,
        open_runtime=open_runtime,
        make_loaded=lambda proven: LoadedModel(proven, max_batch_rows=4, max_pending_rows=64),
        drain_seconds=drain_seconds,
    )
    if refresh:
        await repository.refresh()
    try:
        yield repository
    finally:
        await repository.close()


async def until(holds: Callable[[], bool]) -> None:
    """Returns as soon as it holds; fails when it never does."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.001)


def refusals(repository: Repository) -> dict[tuple[str, int], str]:
    """The reason of each refused version."""
    return {key: refusal.reason for key, refusal in repository.refused.items()}


def truncate(folder: Path) -> None:
    """The bundle's program lacks its last byte."""
    path = folder / "model.pt"
    path.write_bytes(path.read_bytes()[:-1])


def run_wide(method: Method, rows: Floats) -> tuple[Floats, ...]:
    """What a wide bundle answers, of any width: codes are half a row, the tiny bundle's arithmetic."""
    return (np.hstack([rows, rows]) if method is Method.DECODE else rows[:, : rows.shape[1] // 2],)


def publish_wide(root: Path, *, name: str = "wide", width: int = WIDE, version: int = 1) -> Path:
    """A bundle called `wide`: no image, no declared range, no maps, and nothing but codes both ways."""
    inputs = np.linspace(0, 1, 2 * width, dtype=np.float32).reshape(2, width)
    latents = inputs[:, : width // 2]
    expected = {
        method: Expected(run_wide(method, rows)) for method, rows in ((Method.ENCODE, inputs), (Method.DECODE, latents))
    }
    zeros, ones = (0.0,) * width, (1.0,) * width
    return publish(
        root,
        name=name,
        version=version,
        files=make_files() | {"golden.npz": Golden(inputs, latents, expected).to_bytes()},
        operations=(Operation.ENCODE, Operation.DECODE),
        input=InputSpec(size=width),
        latent=LatentSpec(size=width // 2),
        score=Score(kind="reconstruction_error", additive=False),
        statistics=FeatureStatistics(mean=zeros, standard_deviation=ones, minimum=zeros, maximum=ones),
    )
