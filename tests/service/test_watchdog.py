"""A bundle that hangs or has broken is seen from outside, and the rest of the service does not wait for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.engine.loaded import LoadedModel
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, serving

BODY = {"inputs": ROWS}
# Of the bundles of the folder all but `wide`, which has a program of its own.
NAMES = ["denoiser", "raw", "tiny", "vae"]
HANGS = "a forward pass has not come back for more than 5 s"


@pytest.fixture
async def served(models: Path) -> AsyncIterator[Served]:
    """The app, whose bundles are held to answer within five seconds."""
    async with serving(models, Program(), stall_seconds=5) as app:
        yield app


class Clock:
    """The batchers' own, which goes on when it is told to."""

    def __init__(self, model: LoadedModel) -> None:
        self._began, self.ahead = model.batcher._clock, 0.0
        model.batcher._clock = lambda: self._began() + self.ahead


async def all_blocked(served: Served) -> "list[asyncio.Task[object]]":
    """The thread of every bundle is in a forward pass."""
    served.program.hold()
    asked = [asyncio.create_task(served.post(f"{name}/encode", json=BODY)) for name in NAMES]
    while len(served.program.batches) < len(NAMES):
        await asyncio.sleep(0)
    return list(asked)


async def test_while_the_thread_of_every_bundle_is_blocked_the_service_lives_and_says_what_it_has(
    served: Served,
) -> None:
    asked = await all_blocked(served)
    for path in ("/livez", "/readyz", "/v2/health/live", "/v1/models", "/v1/models/tiny"):
        assert (await served.get(path)).status_code == 200, path
    served.program.release()
    for answer in await asyncio.gather(*asked):
        assert answer.status_code == 200  # type: ignore[attr-defined]


async def test_a_bundle_that_hangs_makes_the_service_not_ready_by_name_until_it_comes_back(served: Served) -> None:
    asked = await all_blocked(served)
    assert (await served.get("/readyz")).json()["faults"] == {}
    Clock(served.repository.get("tiny")).ahead = 6.0
    ready = await served.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["unserved"] == ["tiny"]
    assert ready.json()["faults"] == {"tiny/2": HANGS}
    assert not served.repository.complete, "a supervisor gives new connections to other workers"
    assert (await served.get("/v2/health/ready")).status_code == 503
    assert (await served.get("/v2/models/tiny/ready")).json() == {"name": "tiny", "ready": False}
    index = (await served.client.post("/v2/repository/index")).json()
    assert [entry["reason"] for entry in index if (entry["name"], entry["version"]) == ("tiny", "2")] == [HANGS]
    assert (await served.get("/livez")).status_code == 200
    wide = await served.post("wide/encode", json={"inputs": [[0] * 6]})
    assert wide.status_code == 200, wide.text
    served.program.release()
    await asyncio.gather(*asked)
    ready = await served.get("/readyz")
    assert (ready.status_code, ready.json()["faults"]) == (200, {})


async def test_a_bundle_whose_queue_has_broken_is_named_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_: int) -> None:
        raise RuntimeError("a fault of the batcher itself")

    monkeypatch.setattr(served.repository.get("vae").batcher.queue, "take", fault)
    assert (await served.post("vae/encode", json=BODY)).status_code == 500
    ready = await served.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["faults"] == {"vae/1": "its queue has stopped"}
    assert (await served.get("/livez")).status_code == 200
    assert (await served.post("tiny/encode", json=BODY)).status_code == 200
