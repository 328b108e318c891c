"""The service on a real socket, in a thread of its own, over the tiny bundles whose rows have four values."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from bundle.operations import Family
from tests.bundle_factory import make_files, publish
from tests.service.serving import serving
from tests.service.sockets import listening

__all__ = ["names_for", "running"]

SPARE = "spare"


def names_for(operation: str) -> tuple[str, ...]:
    """The bundles that an operation is asked of: those that can do it in full."""
    match operation:
        case "v2_load" | "v2_unload":
            return (SPARE,)
        case "denoise":
            return ("denoiser",)
        case "encode" | "sample" | "interpolate":
            return ("vae",)
        case "anomaly_score":
            return ("tiny", "vae")
    return ("raw", "tiny", "vae")


def publish_alike(root: Path) -> None:
    """One bundle of each kind is in the folder, all with rows of four values and codes of two."""
    publish(root, name="tiny")
    publish(root, name=SPARE)
    publish(root, name="denoiser", family=Family.DENOISING)
    publish(root, name="vae", family=Family.VARIATIONAL)
    files = {name: content for name, content in make_files().items() if name != "calibration.npy"}
    publish(root, name="raw", calibration=None, files=files)


@contextlib.asynccontextmanager
async def _listening(folder: Path, settings: dict[str, Any]) -> AsyncIterator[str]:
    models, state = folder / "models", folder / "state"
    models.mkdir()
    state.mkdir()
    publish_alike(models)
    async with serving(models, state_dir=state, inline_ms=1000, **settings) as served, listening(served.app) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[str]:
    """Where the service listens, with bundles in this empty folder."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with _listening(folder, settings) as url:
            started.set_result((url, asyncio.get_running_loop(), over))
            await over.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="service")
    thread.start()
    url, loop, over = started.result()
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
