"""The model repository extension of the Open Inference Protocol, over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import app as app_module
from service.engine.acknowledgements import Acknowledger
from service.engine.desired import STATE_FILE
from service.errors import (
    NoStateKept,
    PinnedVersionUnavailable,
    ServiceError,
    StateDamaged,
    StateUnavailable,
    UnknownModel,
    VersionRefused,
)
from tests.bundle_factory import publish
from tests.key_files import KEY, write_keys
from tests.service.programs import PATIENCE
from tests.service.repositories import truncate
from tests.service.serving import ROWS, Served, assert_problem, assert_valid, serving


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of state."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
async def kept(three: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The app over three versions of a bundle, with a folder of state."""
    monkeypatch.setattr(app_module, "ACKNOWLEDGE_SECONDS", PATIENCE)
    keys = write_keys(state.parent / "keys.json")
    async with serving(three, state_dir=state, api_keys_file=keys) as served:
        served.client.headers["X-API-Key"] = KEY
        yield served


async def administer(served: Served, verb: str, name: str = "tiny", /, **arguments: Any) -> httpx.Response:
    """The answer to a load or unload; what it says is what the document promises."""
    response = await served.client.post(f"/v2/repository/models/{name}/{verb}", **arguments)
    assert_valid(served.app.openapi(), f"v2_{verb}", response)
    assert response.headers["cache-control"] == "no-store"
    return response


async def load(served: Served, version: object) -> httpx.Response:
    return await administer(served, "load", json={"parameters": {"version": version}})


async def version_of(served: Served) -> int:
    version: int = (await served.post("tiny/encode", json={"inputs": ROWS})).json()["version"]
    return version


@pytest.mark.parametrize("version", ["1", 1])
async def test_a_version_can_be_pinned_and_the_newest_let_answer_again(kept: Served, version: object) -> None:
    assert await version_of(kept) == 3
    pinned = await load(kept, version)
    assert (pinned.status_code, pinned.json()) == (
        200,
        {"name": "tiny", "state": "READY", "version": "1", "pinned": "1", "revision": 1, "pending": []},
    )
    assert await version_of(kept) == 1
    described = (await kept.get("/v1/models/tiny")).json()
    assert (described["version"], described["pinned"], described["versions"]) == (1, 1, [1, 2, 3])
    assert (await kept.get("/v1/models/tiny/versions/3")).json()["version"] == 3
    newest = await load(kept, "newest")
    assert (newest.json()["version"], newest.json()["pinned"], newest.json()["revision"]) == ("3", None, 2)
    assert await version_of(kept) == 3


async def test_what_is_unloaded_is_not_found_but_listed_and_can_be_loaded_again(kept: Served) -> None:
    unloaded = await administer(kept, "unload")
    assert unloaded.json() == {
        "name": "tiny",
        "state": "UNAVAILABLE",
        "version": None,
        "pinned": None,
        "revision": 1,
        "pending": [],
    }
    problem = assert_problem(await kept.post("tiny/encode", json={"inputs": ROWS}), UnknownModel)
    assert "POST /v2/repository/models/tiny/load serves it again" in problem["detail"]
    assert (await kept.get("/v2/models/tiny/ready")).status_code == 404
    assert (await kept.get("/readyz")).status_code == 200
    listed = (await kept.get("/v1/models")).json()
    assert (listed["models"], listed["unloaded"]) == ([], ["tiny"])
    index = (await kept.client.post("/v2/repository/index")).json()
    assert index == [
        {"name": "tiny", "version": str(version), "state": "UNAVAILABLE", "reason": "unloaded"} for version in (1, 2, 3)
    ]
    assert (await kept.client.post("/v2/repository/index", json={"ready": True})).json() == []
    loaded = await administer(kept, "load")
    assert (loaded.json()["state"], loaded.json()["version"]) == ("READY", "3")
    assert await version_of(kept) == 3


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("load", b""),
        ("load", b"{}"),
        ("load", b'{"parameters": {}}'),
        ("unload", b""),
        ("unload", b'{"parameters": {"unload_dependents": false}}'),
        ("unload", b'{"parameters": {"unload_dependents": true}}'),
    ],
)
async def test_what_tritons_clients_send_is_taken(kept: Served, verb: str, body: bytes) -> None:
    assert (await administer(kept, verb, content=body)).status_code == 200


async def test_the_extension_is_advertised_where_it_works(kept: Served, served: Served) -> None:
    assert "model_repository" in (await kept.get("/v2")).json()["extensions"]
    assert "model_repository" not in (await served.get("/v2")).json()["extensions"]


async def test_a_worker_that_has_not_acknowledged_makes_it_202_and_is_named(
    kept: Served, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.app.state.administration, "_patience_seconds", 0)
    other = Acknowledger(state)
    other.write(0, {})
    response = await load(kept, 2)
    assert (response.status_code, response.json()["version"]) == (202, "2")
    (pending,) = response.json()["pending"]
    assert pending["reason"] == "it has not read this yet"
    assert response.json()["error"].endswith(f"{pending['worker']}: it has not read this yet")
    other.write(1, {"tiny": "version 2 was refused: golden-mismatch: encode is off"})
    response = await load(kept, 2)
    assert (response.status_code, response.json()["pending"][0]["reason"]) == (
        202,
        "version 2 was refused: golden-mismatch: encode is off",
    )
    other.write(1, {})
    assert (await load(kept, 2)).status_code == 200
    other.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("nobody/load", "", 404, "no model is called 'nobody'; served here: tiny"),
        ("nobody/unload", "", 404, "no model is called 'nobody'; served here: tiny"),
        ("..%2Ftiny/load", "", 404, ""),
        ("tiny/load", '{"parameters": {"version": "9"}}', 404, "tiny has no version 9; it has 1, 2, 3, 4"),
        ("tiny/load", '{"parameters": {"version": "4"}}', 409, "tiny cannot be served: version 4: size-mismatch"),
        ("tiny/load", '{"parameters": {"version": "0"}}', 422, 'such as "2", or "newest"'),
        ("tiny/load", '{"parameters": {"version": "01"}}', 422, 'such as "2", or "newest"'),
        ("tiny/load", '{"parameters": {"version": true}}', 422, 'such as "2", or "newest"'),
        ("tiny/load", '{"parameters": {"version": 1.5}}', 422, 'such as "2", or "newest"'),
        ("tiny/load", '{"parameters": {"version": -1}}', 422, 'such as "2", or "newest"'),
        ("tiny/load", '{"parameters": {"version": [1]}}', 422, "#/parameters/version"),
        ("tiny/load", '{"parameters": {"config": "{}"}}', 422, "#/parameters/config: unknown parameter; the only one"),
        (
            "tiny/load",
            '{"parameters": {"file:1/model.pt": ""}}',
            422,
            "#/parameters/file:1~1model.pt: unknown parameter",
        ),
        (
            "tiny/load",
            '{"parameters": {"version": "1", "config": "{}"}}',
            422,
            "#/parameters/config: unknown parameter",
        ),
        ("tiny/load", '{"version": 1}', 422, "#/version: unknown field; the fields are parameters"),
        ("tiny/load", "[]", 422, "the body must be a JSON object"),
        ("tiny/load", "{", 400, "the body is not JSON"),
        ("tiny/unload", '{"parameters": {"version": "1"}}', 422, "to take out one, remove its folder"),
        ("tiny/unload", '{"parameters": {"unload_dependents": "no"}}', 422, "unload_dependents is true or false"),
        ("tiny/unload", "{", 400, "the body is not JSON"),
    ],
)
async def test_what_cannot_be_is_refused_in_words_and_changes_nothing(
    kept: Served, three: Path, state: Path, path: str, body: str, status: int, says: str
) -> None:
    truncate(publish(three, version=4))
    response = await kept.client.post(f"/v2/repository/models/{path}", content=body)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert says in response.json()["error"]
    assert not (state / STATE_FILE).exists()
    assert await version_of(kept) == 3


async def test_without_a_folder_of_state_load_and_unload_are_409(models: Path, tmp_path: Path) -> None:
    async with serving(models, api_keys_file=write_keys(tmp_path / "keys.json")) as served:
        for verb in ("load", "unload"):
            response = await served.client.post(f"/v2/repository/models/tiny/{verb}", headers={"X-API-Key": KEY})
            assert response.status_code == NoStateKept.status
            assert "DIABOLO_STATE_DIR" in response.json()["error"]


@pytest.mark.parametrize(("damage", "status"), [("a wrong file", 409), ("no folder", 503)])
async def test_a_state_that_cannot_be_read_is_said_by_every_place_and_what_is_served_stays(
    kept: Served, state: Path, damage: str, status: int
) -> None:
    await load(kept, 2)
    if damage == "no folder":
        state.rename(state.parent / "away")
    else:
        (state / STATE_FILE).write_text("{")
    response = await kept.client.post("/v2/repository/models/tiny/load")
    assert response.status_code == status
    assert str(state.parent) not in response.text
    await kept.app.state.administration.follow()
    ready = await kept.get("/readyz")
    assert_valid(kept.app.openapi(), "ready", ready)
    assert (ready.status_code, ready.json()["revision"]) == (200, 1)
    assert ready.json()["problem"] == response.json()["error"]
    assert await version_of(kept) == 2


async def test_a_pin_that_cannot_be_in_force_is_a_503_that_says_why(kept: Served, three: Path) -> None:
    await load(kept, 2)
    (three / "tiny" / "2").rename(three / "away")
    await kept.repository.refresh()
    problem = assert_problem(await kept.post("tiny/encode", json={"inputs": ROWS}), PinnedVersionUnavailable)
    assert problem["detail"] == "tiny is pinned: version 2 is not in the folder"
    ready = await kept.get("/readyz")
    assert (ready.status_code, ready.json()["unserved"]) == (503, ["tiny"])
    assert ready.json()["unmet"] == {"tiny": "version 2 is not in the folder"}
    assert (await load(kept, "newest")).json()["version"] == "3"
    assert await version_of(kept) == 3


async def test_what_is_damaged_on_disk_after_it_was_loaded_is_ready_and_says_so(kept: Served, three: Path) -> None:
    truncate(three / "tiny" / "3")
    await kept.repository.refresh()
    index = (await kept.client.post("/v2/repository/index")).json()
    assert [(entry["version"], entry["state"]) for entry in index] == [("1", "READY"), ("2", "READY"), ("3", "READY")]
    assert index[2]["reason"].startswith("size-mismatch: ")
    described = (await kept.get("/v1/models/tiny")).json()
    assert [(refusal["version"], refusal["reason"]) for refusal in described["refused"]] == [(3, "size-mismatch")]
    assert described["version"] == 3


@pytest.mark.parametrize("error", [NoStateKept, StateDamaged, VersionRefused, StateUnavailable])
async def test_their_problems_have_pages(kept: Served, error: type[ServiceError]) -> None:
    assert (await kept.get(f"/problems/{error.slug}")).status_code == 200
