"""What is unloaded must be gone: its thread, and what holds its weights."""

import asyncio
import gc
import shutil
import threading
import weakref
from pathlib import Path

from bundle.operations import Family, Method
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime, rows_of
from tests.service.repositories import repository_of
from tests.service.serving import ROWS, serving

CYCLES = 100


def forward_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("forward")}


async def test_a_hundred_versions_that_came_and_went_leave_nothing_behind(root: Path) -> None:
    runtimes: list[weakref.ref[FakeRuntime]] = []

    def open_runtime(_: object) -> FakeRuntime:
        runtime = FakeRuntime(run)
        runtimes.append(weakref.ref(runtime))
        return runtime

    before = set(threading.enumerate())  # other tests' threads are theirs
    async with repository_of(root, open_runtime) as repository:
        tasks = asyncio.all_tasks()
        for version in range(1, CYCLES + 1):
            folder = publish(root, version=version)
            await repository.refresh()
            await repository.get("tiny").run(Method.ENCODE, rows_of(*range(8)))
            shutil.rmtree(folder)
            await repository.refresh()
        while asyncio.all_tasks() != tasks:
            await asyncio.sleep(0.001)
        gc.collect()
        assert len(runtimes) == CYCLES
        assert [runtime() for runtime in runtimes] == CYCLES * [None]
        for thread in forward_threads() - before:
            await asyncio.to_thread(thread.join, 30)
        assert not forward_threads() - before
        assert (len(repository.loaded), len(repository.refused)) == (0, 0)


async def test_a_bundle_that_was_asked_for_everything_is_freed_when_it_goes(root: Path) -> None:
    publish(root, name="vae", family=Family.VARIATIONAL)
    publish(root, name="denoiser", family=Family.DENOISING)
    async with serving(root) as served:
        asked: dict[str, dict[str, object]] = {
            "vae/encode": {"inputs": ROWS},
            "vae/reconstruct": {"inputs": ROWS},
            "vae/anomaly-score": {"inputs": ROWS},
            "denoiser/denoise": {"inputs": ROWS},
            "vae/decode": {"latents": [[0, 0]]},
            "vae/sample": {"count": 1},
            "vae/interpolate": {"start": 1, "end": 2, "steps": 2, "space": "seeds"},
        }
        for path, body in asked.items():
            assert (await served.post(path, json=body)).status_code == 200
        lines = {"Content-Type": "application/x-ndjson"}
        assert (await served.post("vae/encode", content=b"[0, 0, 0, 0]\n", headers=lines)).status_code == 200
        tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}
        answer = await served.client.post("/v2/models/vae/infer", json={"inputs": [tensor]})
        assert answer.status_code == 200
        models = [weakref.ref(served.repository.get(name)) for name in ("vae", "denoiser")]
        gc.disable()  # nothing may need it
        try:
            for name in ("vae", "denoiser"):
                shutil.rmtree(root / name)
            await served.repository.refresh()
            async with asyncio.timeout(PATIENCE):
                while any(model() is not None for model in models):
                    await asyncio.sleep(0.001)
        finally:
            gc.enable()
