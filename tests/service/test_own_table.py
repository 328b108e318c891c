"""From a CSV file to answers by feature name: the whole way, with nothing made up between."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.manifest import Manifest
from service.app import create_app
from service.settings import Settings
from training.defaults import Choices, configuration
from training.publish import Places, publish
from training.sources.files import Files

NAMES = ("temperature", "pressure/bar", "flöw")
SCALES = np.array([1, 1e-3, 1e6])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A folder of bundles with `pumps`, trained for a moment on a hundred rows of three features, and its manifest."""
    folder = tmp_path_factory.mktemp("own")
    rows = np.random.default_rng(0).normal(size=(100, 1)) * SCALES + [20, 0.001, 4e6]
    lines = [",".join(map(repr, map(float, row))) for row in rows + 0.1 * SCALES]
    (folder / "pumps.csv").write_text("\n".join([",".join(NAMES), *lines]))
    files, choices = Files(path=str(folder / "pumps.csv")), Choices(family="vanilla", latent=1, hidden=(), epochs=40)
    config, data = configuration(files, choices, name="pumps", folder=folder / "runs")
    places = Places(models=folder / "models", data=folder / "data", runs=folder / "runs")
    return places.models, publish(config, places, data=data, command="diabolo train").manifest


async def answers(models: Path, *bodies: dict[str, object]) -> list[httpx.Response]:
    """What the service says to each anomaly-score request."""
    app = create_app(Settings(models_dir=models, poll_seconds=3600, device="cpu"))
    await app.state.repository.refresh()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo") as client,
    ):
        return [await client.post("/v1/models/pumps/anomaly-score", json=body) for body in bodies]


async def test_a_bundle_from_a_table_takes_rows_by_name_in_any_order(published: tuple[Path, Manifest]) -> None:
    models, manifest = published
    mean = dict(zip(NAMES, manifest.statistics.mean, strict=True))
    odd = mean | {"pressure/bar": mean["pressure/bar"] + 50 * manifest.statistics.standard_deviation[1]}
    by_name, backwards, by_position, both = await answers(
        models,
        {"inputs": [mean]},
        {"inputs": [dict(reversed(mean.items()))]},
        {"inputs": [list(mean.values())]},
        {"inputs": [mean, odd], "alpha": 0.1},
    )
    assert by_name.status_code == 200, by_name.text
    assert by_name.json()["scores"] == backwards.json()["scores"] == by_position.json()["scores"]
    assert both.json()["is_anomaly"] == [False, True]


async def test_a_missing_and_an_unknown_name_are_pointed_at(published: tuple[Path, Manifest]) -> None:
    (refused,) = await answers(published[0], {"inputs": [{"temperature": 20, "pressure/bar": 0, "flow": 1}]})
    assert refused.status_code == 422
    faults = {fault["pointer"]: fault["detail"] for fault in refused.json()["errors"]}
    assert "'flöw' is missing" in faults["#/inputs/0"]
    assert "did you mean 'flöw'?" in faults["#/inputs/0/flow"]
