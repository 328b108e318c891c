"""Who may ask what, how often, and what those hear who may not."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.api.auth import Guard
from service.errors import AdministrationOff, RateLimited, ScopeMissing, Unauthenticated
from service.keys import KeyScope
from tests.key_files import KEY, key_of, write_keys
from tests.service.guards import SLOW, Clock, admitted, guard_of
from tests.service.serving import ROWS, Served, assert_problem, assert_valid, serving

INFER, ADMIN, METRICS = KeyScope
BODY = {"inputs": ROWS}
OPEN = [
    "/livez",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/docs",
    "/openapi.json",
    "/problems/not-found",
    "/",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of keys is to be."""
    return tmp_path / "keys.json"


@pytest.fixture
async def guarded(models: Path, path: Path) -> AsyncIterator[Served]:
    """The app with a key for each scope: `diabolo_infer` and so on; and a slow one, for inference."""
    keys = [key_of(scope, scope, secret=f"diabolo_{scope}") for scope in KeyScope]
    write_keys(path, *keys, key_of("slow", INFER, rate=SLOW, secret="diabolo_slow"))
    async with serving(models, api_keys_file=path, state_dir=path.parent) as served:
        yield served


def load(served: Served, key: str | None = None) -> Any:
    return served.client.post("/v2/repository/models/tiny/load", headers={"X-API-Key": key} if key else {})


@pytest.mark.parametrize("path_", OPEN)
async def test_health_and_documents_are_open(guarded: Served, path_: str) -> None:
    assert (await guarded.get(path_)).status_code in {200, 307}


@pytest.mark.parametrize(
    "fields",
    [
        {"Authorization": "Bearer diabolo_infer"},
        {"Authorization": "bearer  diabolo_infer"},
        {"X-API-Key": "diabolo_infer"},
        {"Authorization": "Basic YTpi", "X-API-Key": "diabolo_infer"},
    ],
)
async def test_a_key_lets_in_by_either_field_on_the_short_way_and_on_the_usual_one(
    guarded: Served, fields: dict[str, str]
) -> None:
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    for path_, body in (
        ("/v1/models/tiny/encode", BODY),
        ("/v1/models/tiny/versions/1/encode", BODY),
        ("/v2/models/tiny/infer", {"inputs": [tensor]}),
    ):
        assert (await guarded.client.post(path_, json=body, headers=fields)).status_code == 200
    for path_ in ("/v1/models", "/v1/models/tiny", "/v2", "/v2/models/tiny"):
        assert (await guarded.get(path_, headers=fields)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "challenge"),
    [
        ({}, 'Bearer realm="diabolo"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="diabolo"'),
        ({"Authorization": "Basic diabolo_infer"}, 'Bearer realm="diabolo"'),
        ({"X-API-Key": "diabolo_wrong"}, 'Bearer realm="diabolo", error="invalid_token"'),
        ({"Authorization": "Bearer diabolo_wrong", "X-API-Key": "diabolo_infer"}, 'Bearer realm="diabolo", error='),
    ],
)
async def test_without_a_key_that_is_known_the_answer_is_401_and_says_how(
    guarded: Served, fields: dict[str, str], challenge: str
) -> None:
    refused = await guarded.post("tiny/encode", json=BODY, headers=fields)
    problem = assert_problem(refused, Unauthenticated)
    assert_valid(guarded.app.openapi(), "encode", refused)
    assert refused.headers["www-authenticate"].startswith(challenge)
    assert "diabolo_" not in problem["detail"]
    other = await guarded.client.post("/v2/models/tiny/infer", content=b"{", headers=fields)
    assert (other.status_code, list(other.json())) == (401, ["error"])
    assert_valid(guarded.app.openapi(), "v2_infer", other)
    assert guarded.program.batches == []


async def test_a_body_is_not_read_before_its_key_is_known(guarded: Served) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        raise AssertionError("the body was read")

    assert (await guarded.post("tiny/encode", content=endless())).status_code == 401


async def test_every_operation_but_health_needs_a_key(guarded: Served) -> None:
    for path_, operations in guarded.app.openapi()["paths"].items():
        for method, operation in operations.items():
            refused = await guarded.client.request(method, path_.format(name="tiny", version="1", index="0"))
            is_open = path_ in OPEN
            assert (refused.status_code == 401) != is_open, path_
            assert ("security" in operation) != is_open, path_
            if not is_open:
                (scope,) = {scope for way in operation["security"] for scopes in way.values() for scope in scopes}
                needed = "admin" if "/repository/models/" in path_ else "metrics" if path_ == "/metrics" else "infer"
                assert scope == needed
                assert set().union(*operation["security"]) == {"bearer", "api_key"}


async def test_no_route_is_open_but_those_that_are_meant_to_be(guarded: Served) -> None:
    """Also what is in no document."""
    reached = 0
    included = [getattr(found, "original_router", None) for found in guarded.app.routes]
    for route in [*guarded.app.routes, *(route for router in included if router for route in router.routes)]:
        if not isinstance(route, APIRoute):
            continue
        path_ = route.path.format(name="tiny", version="1", index="0", slug="not-found")
        for method in route.methods or ():
            reached += 1
            status = (await guarded.client.request(method, path_)).status_code
            assert (status == 401) != (path_ in OPEN), path_
    assert reached > 30


@pytest.mark.parametrize("key", ["diabolo_admin", "diabolo_metrics"])
async def test_a_key_for_something_else_is_403_and_hears_which_scope_it_lacks(guarded: Served, key: str) -> None:
    refused = await guarded.post("tiny/encode", json=BODY, headers={"X-API-Key": key})
    problem = assert_problem(refused, ScopeMissing)
    assert refused.headers["www-authenticate"].endswith('error="insufficient_scope", scope="infer"')
    assert problem["detail"].startswith("this needs a key with the scope infer")
    assert (await guarded.get("/v1/models", headers={"X-API-Key": key})).status_code == 403


async def test_only_an_admin_key_administers(guarded: Served) -> None:
    assert [(await load(guarded, key)).status_code for key in (None, "diabolo_x", "diabolo_infer")] == [401, 401, 403]
    assert (await load(guarded, "diabolo_admin")).status_code == 200


async def test_without_a_file_of_keys_inference_is_open_and_administration_is_off(served: Served) -> None:
    assert (await served.post("tiny/encode", json=BODY)).status_code == 200
    assert (await served.post("tiny/encode", json=BODY, headers={"X-API-Key": "any"})).status_code == 200
    for key in (None, KEY):
        refused = await load(served, key)
        assert (refused.status_code, list(refused.json())) == (403, ["error"])
        assert "DIABOLO_API_KEYS_FILE" in refused.json()["error"]
        assert_valid(served.app.openapi(), "v2_load", refused)


async def test_the_document_says_whether_keys_are_needed(served: Served, guarded: Served) -> None:
    for app, needs_none in ((served.app, True), (guarded.app, False)):
        for path_, operations in app.openapi()["paths"].items():
            for operation in operations.values():
                if "security" in operation:
                    assert ({} in operation["security"]) == (needs_none and "/repository/models/" not in path_)


async def test_a_key_over_its_rate_is_429_until_the_bucket_has_a_token(guarded: Served) -> None:
    slow = {"X-API-Key": "diabolo_slow"}
    statuses = [(await guarded.post("tiny/encode", json=BODY, headers=slow)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    problem = assert_problem(await guarded.post("tiny/encode", json=BODY, headers=slow), RateLimited)
    assert problem["retry_after_s"] in {1, 2, 3, 4}
    assert (await guarded.get("/v1/models", headers=slow)).status_code == 429, "it is one bucket for all paths"
    limited = await guarded.client.post("/v2/models/tiny/infer", headers=slow)
    assert (limited.status_code, list(limited.json())) == (429, ["error"])
    assert limited.headers["retry-after"] in {"1", "2", "3", "4"}
    assert_valid(guarded.app.openapi(), "v2_infer", limited)
    assert (await guarded.post("tiny/encode", json=BODY, headers={"X-API-Key": "diabolo_infer"})).status_code == 200


async def test_a_bucket_fills_at_its_rate_up_to_its_burst(path: Path) -> None:
    clock = Clock()
    guard = await guard_of(write_keys(path, key_of("slow", rate=SLOW)), clock)
    assert [admitted(guard) for _ in range(3)] == ["slow", "slow", RateLimited]
    with pytest.raises(RateLimited) as refused:
        guard.admit({}, {b"x-api-key": KEY.encode()}, INFER)
    assert refused.value.retry_after == 2
    clock.now += 1
    assert admitted(guard) == RateLimited
    with pytest.raises(RateLimited) as refused:
        guard.admit({}, {b"x-api-key": KEY.encode()}, INFER)
    assert refused.value.retry_after == 1
    clock.now += 1
    assert [admitted(guard) for _ in range(2)] == ["slow", RateLimited]
    clock.now += 1e6
    assert [admitted(guard) for _ in range(3)] == ["slow", "slow", RateLimited]


async def test_what_is_refused_for_its_scope_costs_no_token(path: Path) -> None:
    guard = await guard_of(write_keys(path, key_of("slow", INFER, rate=SLOW)))
    assert [admitted(guard, ADMIN) for _ in range(5)] == [ScopeMissing] * 5
    assert admitted(guard) == "slow"


async def test_keys_are_in_no_log(guarded: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for key in ("diabolo_infer", "diabolo_wrong"):
        await guarded.post("tiny/encode", json=BODY, headers={"X-API-Key": key})
        await guarded.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert not [record for record in caplog.records if "diabolo_" in record.getMessage()]


def test_without_a_file_the_guard_asks_for_nothing() -> None:
    guard = Guard(None)
    assert not guard.has_keys
    guard.admit({}, {}, INFER)
    guard.admit({}, {}, METRICS)
    with pytest.raises(AdministrationOff):
        guard.admit({}, {b"x-api-key": KEY.encode()}, ADMIN)
