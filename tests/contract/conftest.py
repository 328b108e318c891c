"""The app whose contract is tested, over tiny bundles."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.key_files import KEY, write_keys
from tests.service.serving import Served, publish_all, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What anyio's plugin runs coroutine tests on."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("DIABOLO_")]:
            patch.delenv(variable)
        yield


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The app over a bundle of each kind."""
    models, state = publish_all(tmp_path_factory.mktemp("models")), tmp_path_factory.mktemp("state")
    keys = write_keys(tmp_path_factory.mktemp("keys") / "keys.json")
    async with serving(models, state_dir=state, api_keys_file=keys) as app:
        app.client.headers["X-API-Key"] = KEY
        yield app
