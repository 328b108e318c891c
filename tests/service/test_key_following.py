"""The file of API keys while the service runs: what changes in it, and what becomes of it."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from service.api.auth import Guard
from service.errors import RateLimited, ScopeMissing, Unauthenticated
from service.keys import KeyFileDamaged, KeyScope, Rate
from tests.key_files import KEY, key_of, write_keys
from tests.service.guards import SLOW, admitted, guard_of
from tests.service.serving import serving

INFER, ADMIN, _ = KeyScope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of keys is to be."""
    return tmp_path / "keys.json"


async def test_a_change_of_the_file_is_in_force_when_it_was_followed(path: Path) -> None:
    guard = await guard_of(write_keys(path, key_of("first", INFER)))
    assert admitted(guard) == "first"
    write_keys(path, key_of("second", ADMIN), key_of("third", INFER, secret="diabolo_3"))
    await guard.follow()
    assert (admitted(guard), admitted(guard, ADMIN), admitted(guard, key="diabolo_3")) == (
        ScopeMissing,
        "second",
        "third",
    )
    path.write_text('{"keys": []}')
    await guard.follow()
    assert admitted(guard) == Unauthenticated


async def test_an_empty_bucket_stays_empty_when_the_file_is_read_again_unless_its_rate_has_changed(path: Path) -> None:
    guard = await guard_of(write_keys(path, key_of("slow", rate=SLOW)))
    assert [admitted(guard) for _ in range(3)] == ["slow", "slow", RateLimited]
    write_keys(path, key_of("slow", rate=SLOW), key_of("other", secret="diabolo_other"))
    await guard.follow()
    assert (admitted(guard), admitted(guard, key="diabolo_other")) == (RateLimited, "other")
    write_keys(path, key_of("slow", rate=Rate(requests_per_second=1, burst=1)))
    await guard.follow()
    assert [admitted(guard) for _ in range(2)] == ["slow", RateLimited]


@pytest.mark.parametrize("damage", ["a wrong file", "no file"])
async def test_a_damaged_file_leaves_the_last_good_keys_in_force_is_logged_once_and_mended_by_the_next(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    guard = await guard_of(write_keys(path, key_of("first")))
    if damage == "no file":
        path.unlink()
    else:
        path.write_text(f'{{"keys": [{KEY}')
    for _ in range(3):
        await guard.follow()
    assert admitted(guard) == "first"
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said.startswith("the file of API keys: ")
    assert KEY not in said
    write_keys(path, key_of("mended"))
    await guard.follow()
    assert admitted(guard) == "mended"


async def test_a_file_that_is_damaged_at_start_ends_the_start(models: Path, path: Path) -> None:
    guard = Guard(path)
    assert admitted(guard) == Unauthenticated, "before the file was read nobody is let in"
    with pytest.raises(KeyFileDamaged):
        await guard.start()
    with pytest.raises(KeyFileDamaged):
        async with serving(models, api_keys_file=path):
            pass


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o606, True)])
async def test_a_file_that_others_may_read_is_warned_of(
    path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    write_keys(path).chmod(mode)
    await guard_of(path)
    assert any("chmod 600" in record.getMessage() for record in caplog.records) == warned


async def test_the_service_follows_the_file_while_it_runs(models: Path, path: Path) -> None:
    write_keys(path)
    async with serving(models, api_keys_file=path, poll_seconds=0.01) as served:
        fields = {"X-API-Key": "diabolo_new"}
        assert (await served.get("/v1/models", headers=fields)).status_code == 401
        write_keys(path, key_of("new", secret="diabolo_new"))
        found: httpx.Response = await served.get("/v1/models", headers=fields)
        while found.status_code == 401:  # the test's own time limit ends this
            await asyncio.sleep(0.01)
            found = await served.get("/v1/models", headers=fields)
        assert found.status_code == 200
