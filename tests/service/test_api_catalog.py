"""What the service says about itself: the catalog, rows to try, and whether traffic should come."""

import asyncio
import io
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bundle.read import Bundle
from service.api.catalog_schemas import ModelDescription, ModelList, Ready
from service.app import StrictRefusal, create_app
from service.engine.runtimes import Runtime
from service.errors import NotAcceptable, UnknownExample
from service.settings import Settings
from tests.bundle_factory import CALIBRATION, make_golden, publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import truncate
from tests.service.serving import Served, assert_problem, assert_valid, serving


async def answer_of(served: Served, path: str, operation_id: str) -> Any:
    response = await served.get(path)
    assert response.status_code == 200, response.text
    assert_valid(served.app.openapi(), operation_id, response)
    return response.json()


async def test_the_list_names_the_newest_version_of_every_bundle(served: Served) -> None:
    found = await answer_of(served, "/v1/models", "list_models")
    ModelList.model_validate(found)
    assert [(model["name"], model["version"], model["versions"]) for model in found["models"]] == [
        ("denoiser", 1, [1]),
        ("raw", 1, [1]),
        ("tiny", 2, [1, 2]),
        ("vae", 1, [1]),
        ("wide", 1, [1]),
    ]
    assert found["refused"] == []
    operations = {model["name"]: model["operations"] for model in found["models"]}
    assert operations["tiny"] == ["encode", "decode", "reconstruct", "anomaly-score", "interpolate"]
    assert set(operations["vae"]) - set(operations["tiny"]) == {"sample"}
    assert set(operations["denoiser"]) - set(operations["tiny"]) == {"denoise"}


async def test_a_description_says_what_the_bundle_takes_and_does_and_where_it_came_from(served: Served) -> None:
    found = await answer_of(served, "/v1/models/tiny", "describe_model")
    ModelDescription.model_validate(found)
    model = served.repository.get("tiny")
    assert (found["digest"], found["device"], found["golden_error"]) == (model.digest, "cpu", 0)
    assert found["accepts"] == {
        "media_types": ["application/json", "application/x-npy", "image/png", "image/jpeg"],
        "row_shapes": [[4], [2, 2]],
        "dtype": "float32",
        "paths": {
            "encode": "/v1/models/tiny/encode",
            "decode": "/v1/models/tiny/decode",
            "reconstruct": "/v1/models/tiny/reconstruct",
            "anomaly_score": "/v1/models/tiny/anomaly-score",
            "interpolate": "/v1/models/tiny/interpolate",
        },
    }
    assert found["calibration"] == {
        "size": 19,
        "minimum": 0,
        "median": 0.5,
        "maximum": 1,
        "smallest_alpha": 1 / 20,
        "thresholds": {
            "0.05": pytest.approx(float(CALIBRATION.threshold(0.05))),
            "0.1": pytest.approx(float(CALIBRATION.threshold(0.1))),
        },
    }
    assert found["metrics"] == {"test_mse": 0.25}
    assert found["hyper_parameters"] == {"layers": [4, 2], "tied": False, "note": "ünïcode"}
    assert found["provenance"]["command"] == "diabolo train tiny"
    assert found["examples"] == 3


async def test_every_path_that_a_description_lists_is_there(served: Served) -> None:
    for name in ("tiny", "vae", "denoiser", "raw", "wide"):
        description = await answer_of(served, f"/v1/models/{name}", "describe_model")
        for path in description["accepts"]["paths"].values():
            response = await served.client.post(path, json={})
            assert response.status_code == 422, "it is there, and misses its fields"


async def test_a_named_version_is_described_as_itself(served: Served) -> None:
    found = await answer_of(served, "/v1/models/tiny/versions/1", "describe_model_version")
    assert (found["version"], found["versions"]) == (1, [1, 2])
    assert found["digest"] == served.repository.get("tiny", "1").digest


async def test_what_a_bundle_has_not_is_null_or_absent(served: Served) -> None:
    raw = await answer_of(served, "/v1/models/raw", "describe_model")
    assert raw["calibration"] is None
    wide = await answer_of(served, "/v1/models/wide", "describe_model")
    assert wide["accepts"]["media_types"] == ["application/json", "application/x-npy"]
    assert wide["accepts"]["row_shapes"] == [[6]]


async def test_examples_are_the_probe_and_can_be_posted_back_as_they_are(served: Served) -> None:
    golden = make_golden()
    for index in range(3):
        response = await served.get(f"/v1/models/tiny/examples/{index}")
        assert_valid(served.app.openapi(), "example", response)
        assert np.float32(response.json()["inputs"]).tobytes() == golden.inputs[index].tobytes()
        encoded = await served.post("tiny/encode", content=response.content)
        assert np.float32(encoded.json()["latents"]).tobytes() == golden.inputs[index, :2].tobytes()


async def test_examples_as_pictures_can_be_posted_back_too(served: Served) -> None:
    response = await served.get("/v1/models/tiny/examples/2", headers={"Accept": "image/png"})
    assert response.headers["content-type"] == "image/png"
    assert response.headers["vary"] == "Accept"
    row = make_golden().inputs[2]
    pixels = np.asarray(Image.open(io.BytesIO(response.content)))
    np.testing.assert_array_equal(pixels.reshape(-1), np.rint(row * 255))
    encoded = await served.post("tiny/encode", content=response.content)
    np.testing.assert_allclose(encoded.json()["latents"], row[None, :2], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("index", ["3", "-1", "00", "1.0", "x", "9" * 5000])
async def test_an_example_that_there_is_not_is_refused_with_how_many_there_are(served: Served, index: str) -> None:
    problem = assert_problem(await served.get(f"/v1/models/tiny/examples/{index}"), UnknownExample)
    assert problem["detail"].startswith("tiny carries 3 examples, counted from 0; there is no ")


async def test_an_example_that_is_no_image_is_no_picture(served: Served) -> None:
    response = await served.get("/v1/models/wide/examples/0", headers={"Accept": "image/png"})
    assert_problem(response, NotAcceptable)


async def test_a_refused_version_is_shown_with_its_reason(root: Path) -> None:
    publish(root, version=1)
    truncate(publish(root, version=2))
    truncate(publish(root, name="other"))
    async with serving(root) as served:
        found = await answer_of(served, "/v1/models", "list_models")
        assert [model["name"] for model in found["models"]] == ["tiny"]
        assert [(refusal["name"], refusal["version"], refusal["reason"]) for refusal in found["refused"]] == [
            ("other", 1, "size-mismatch"),
            ("tiny", 2, "size-mismatch"),
        ]
        assert str(root) not in str(found)
        described = await answer_of(served, "/v1/models/tiny", "describe_model")
        assert [refusal["version"] for refusal in described["refused"]] == [2]
        ready = await served.get("/readyz")
        assert_valid(served.app.openapi(), "ready", ready)
        assert (ready.status_code, ready.json()["unserved"]) == (503, ["other"])


async def test_ready_and_live_when_all_is_well(served: Served) -> None:
    assert await answer_of(served, "/livez", "live") == {"live": True}
    assert await answer_of(served, "/readyz", "ready") == {
        "ready": True,
        "draining": False,
        "scanned": True,
        "serving": ["denoiser/1", "raw/1", "tiny/2", "vae/1", "wide/1"],
        "unserved": [],
        "faults": {},
        "unmet": {},
        "revision": None,
        "problem": None,
    }


async def test_until_the_first_scan_is_done_the_service_lives_but_is_not_ready(root: Path) -> None:
    gate, opening = threading.Event(), threading.Event()

    def open_runtime(_: Bundle) -> Runtime:
        opening.set()
        assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    publish(root)
    app = create_app(Settings(models_dir=root, poll_seconds=3600), open_runtime=open_runtime)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo") as client,
    ):
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        ready = await client.get("/readyz")
        assert (ready.status_code, Ready.model_validate(ready.json()).scanned) == (503, False)
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/v1/models")).json() == {"models": [], "refused": [], "unloaded": []}
        loading = await client.get("/v1/models/tiny")
        assert loading.status_code == 503
        gate.set()
        while not app.state.repository.scanned:
            await asyncio.sleep(0.001)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/models/tiny")).status_code == 200


async def test_while_it_drains_the_service_is_not_ready_but_lives_and_answers(models: Path) -> None:
    async with serving(models) as served:
        served.app.state.draining = True
        ready = await served.get("/readyz")
        assert (ready.status_code, ready.json()["draining"], ready.json()["ready"]) == (503, True, False)
        assert (await served.get("/livez")).status_code == 200
        assert (await served.post("tiny/encode", json={"inputs": [[0] * 4]})).status_code == 200


async def test_after_the_lifespan_the_service_is_draining_and_every_bundle_closed(models: Path) -> None:
    async with serving(models) as served:
        loaded = served.repository.answering()
    assert served.app.state.draining
    assert not any(model.batcher.alive for model in loaded)


async def test_strict_makes_a_refused_bundle_fatal_at_start_and_only_then(root: Path) -> None:
    folder = publish(root)
    app = create_app(Settings(models_dir=root, strict=True), open_runtime=lambda _: FakeRuntime(run))
    async with app.router.lifespan_context(app):
        assert app.state.repository.ready, "strict means that the first scan is done before the service is up"
    truncate(folder)
    app = create_app(Settings(models_dir=root, strict=True), open_runtime=lambda _: FakeRuntime(run))
    with pytest.raises(StrictRefusal, match="1 bundles were refused and DIABOLO_STRICT is set"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


async def test_two_apps_in_one_process_share_nothing(models: Path, root: Path) -> None:
    shutil.copytree(models / "tiny", root / "tiny")
    async with serving(models) as one, serving(root) as other:
        assert one.repository is not other.repository
        assert len(other.repository.answering()) == 1
        other.app.state.draining = True
        assert (await one.get("/readyz")).status_code == 200


async def test_the_root_leads_to_the_docs(served: Served) -> None:
    response = await served.get("/", follow_redirects=True)
    assert response.status_code == 200
    assert response.url.path == "/docs"
