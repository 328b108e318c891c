"""Ready must mean that every bundle has computed what it should, on this machine: not that files were found, nor that a
warm-up was tried."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from service.app import create_app
from service.settings import Settings
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.serving import ROWS


@pytest.mark.parametrize(("off", "status"), [(0.0, 200), (0.01, 503)], ids=["right", "off by a hundredth"])
async def test_not_ready_before_the_probe_has_been_replayed_and_never_if_it_fails(
    root: Path, off: float, status: int
) -> None:
    gate, replaying = threading.Event(), threading.Event()

    def program(method: Method, rows: Floats) -> tuple[Floats, ...]:
        replaying.set()
        assert gate.wait(PATIENCE)
        return tuple(output + output.dtype.type(off) for output in run(method, rows))

    publish(root)
    app = create_app(Settings(models_dir=root), open_runtime=lambda _: FakeRuntime(program))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo") as client,
    ):

        async def statuses() -> list[int]:
            answers = [await client.get(path) for path in ("/livez", "/readyz", "/v2/health/ready")]
            answers.append(await client.post("/v1/models/tiny/encode", json={"inputs": ROWS}))
            return [answer.status_code for answer in answers]

        assert await asyncio.to_thread(replaying.wait, PATIENCE)
        assert await statuses() == [200, 503, 503, 503]
        gate.set()
        while not app.state.repository.scanned:
            await asyncio.sleep(0.001)
        assert await statuses() == [200, status, status, 200 if status == 200 else 404]
