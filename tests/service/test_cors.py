"""Pages of other origins: let in where that was asked for, and nowhere else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings
from tests.key_files import KEY, write_keys
from tests.service.serving import ROWS, Served, serving

HERE, ELSEWHERE = "https://here.example", "https://elsewhere.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key, content-type"}
NAME = "access-control-allow-origin"


@pytest.fixture
async def open_to(models: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """The app, with keys, open to pages of one origin."""
    keys = write_keys(tmp_path / "keys.json")
    async with serving(models, cors_origins=(HERE,), api_keys_file=keys) as app:
        yield app


async def test_by_default_no_page_of_another_origin_is_let_in(served: Served) -> None:
    response = await served.post("tiny/encode", json={"inputs": ROWS}, headers={"Origin": HERE})
    asked = await served.client.options("/v1/models/tiny/encode", headers={"Origin": HERE, **PREFLIGHT})
    assert NAME not in response.headers
    assert (asked.status_code, NAME in asked.headers) == (405, False)


async def test_a_page_of_an_origin_that_is_listed_may_ask_and_read_refusals_too(open_to: Served) -> None:
    asked = await open_to.client.options("/v1/models/tiny/encode", headers={"Origin": HERE, **PREFLIGHT})
    assert (asked.status_code, asked.headers[NAME]) == (200, HERE)
    for key, status in ((KEY, 200), ("wrong", 401)):
        fields = {"Origin": HERE, "X-API-Key": key}
        response = await open_to.post("tiny/encode", json={"inputs": ROWS}, headers=fields)
        assert (response.status_code, response.headers[NAME]) == (status, HERE)
        assert "access-control-allow-credentials" not in response.headers


async def test_a_page_of_another_origin_is_not(open_to: Served) -> None:
    asked = await open_to.client.options("/v1/models/tiny/encode", headers={"Origin": ELSEWHERE, **PREFLIGHT})
    assert (asked.status_code, NAME in asked.headers) == (400, False)
    fields = {"Origin": ELSEWHERE, "X-API-Key": KEY}
    response = await open_to.post("tiny/encode", json={"inputs": ROWS}, headers=fields)
    assert NAME not in response.headers


def test_origins_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIABOLO_CORS_ORIGINS", f"{HERE}, http://localhost:3000")
    assert Settings().cors_origins == (HERE, "http://localhost:3000")
    for wrong in ("*", "here.example", f"{HERE}/"):
        monkeypatch.setenv("DIABOLO_CORS_ORIGINS", wrong)
        with pytest.raises(ValidationError):
            Settings()
