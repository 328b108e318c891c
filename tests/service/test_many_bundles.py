"""Fifty bundles of different widths side by side: all start, are listed, and answer for themselves."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.errors import InvalidContent
from service.settings import Settings
from tests.service.programs import FakeRuntime, Program
from tests.service.repositories import publish_wide, run_wide, until
from tests.service.serving import Served, assert_problem

WIDTHS = {f"wide-{number:02}": 2 * number + 2 for number in range(49)}


@pytest.fixture(scope="module")
async def fifty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The app over 48 bundles of one version and one of two, started as it is in earnest."""
    root = tmp_path_factory.mktemp("models")
    for name, width in WIDTHS.items():
        publish_wide(root, name=name, width=width)
    publish_wide(root, name="wide-07", width=1000, version=2)
    app = create_app(Settings(models_dir=root, poll_seconds=3600), open_runtime=lambda _: FakeRuntime(run_wide))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo") as client,
    ):
        await until(lambda: bool(app.state.repository.ready))
        yield Served(app, client, Program())


def rows(width: int) -> list[list[int]]:
    return np.arange(2 * width).reshape(2, width).tolist()


async def test_all_are_listed_with_their_widths_and_ready(fifty: Served) -> None:
    listed = (await fifty.get("/v1/models")).json()["models"]
    assert {model["name"]: model["input"]["size"] for model in listed} == WIDTHS | {"wide-07": 1000}
    ready = await fifty.get("/readyz")
    assert (ready.status_code, len(ready.json()["serving"])) == (200, 49)
    index = (await fifty.client.post("/v2/repository/index")).json()
    assert len(index) == 50
    assert {entry["state"] for entry in index} == {"READY"}


async def test_each_answers_for_itself_when_all_are_asked_at_once(fifty: Served) -> None:
    asked = {**WIDTHS, "wide-07": 1000}
    responses = await asyncio.gather(
        *(fifty.post(f"{name}/encode", json={"inputs": rows(width)}) for name, width in asked.items())
    )
    for (name, width), response in zip(asked.items(), responses, strict=True):
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["model"], answer["version"]) == (name, 2 if name == "wide-07" else 1)
        assert answer["latents"] == [row[: width // 2] for row in rows(width)]


async def test_versions_of_one_name_may_differ_in_width_and_answer_by_number(fifty: Served) -> None:
    for version, width in ((1, WIDTHS["wide-07"]), (2, 1000)):
        path = f"wide-07/versions/{version}"
        answer = await fifty.post(f"{path}/encode", json={"inputs": rows(width)})
        assert answer.json()["latents"] == [row[: width // 2] for row in rows(width)]
        described = (await fifty.get(f"/v1/models/{path}")).json()
        assert (described["input"]["size"], described["versions"]) == (width, [1, 2])
        tensor = {"name": "input", "shape": [2, width], "datatype": "FP32", "data": rows(width)}
        inferred = await fifty.client.post(
            f"/v2/models/{path}/infer", json={"inputs": [tensor], "outputs": [{"name": "latent"}]}
        )
        assert inferred.json()["model_version"] == str(version)
        assert inferred.json()["outputs"][0]["shape"] == [2, width // 2]


async def test_rows_of_a_neighbours_width_are_refused(fifty: Served) -> None:
    wrong = await fifty.post("wide-03/encode", json={"inputs": rows(WIDTHS["wide-04"])})
    assert_problem(wrong, InvalidContent)
