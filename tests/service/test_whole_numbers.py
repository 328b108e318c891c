"""To JSON 2.0 is an integer, and some languages write it so: it is one wherever the document says that one belongs."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidContent, TooManyRows
from service.operations import MAX_SEED
from tests.key_files import KEY, write_keys
from tests.service.serving import ROWS, Served, assert_problem, serving

WRITTEN = [
    ("vae/sample", {"count": 2, "seed": 7, "offset": 3, "decimals": 4}),
    ("tiny/encode", {"inputs": ROWS, "decimals": 1}),
    ("tiny/interpolate", {"start": ROWS[0], "end": ROWS[1], "steps": 3}),
    ("vae/interpolate", {"space": "seeds", "start": 1, "end": [2], "steps": 2}),
]


def with_fractions(value: Any) -> Any:
    match value:
        case dict():
            return {name: with_fractions(member) for name, member in value.items()}
        case list():
            return [with_fractions(member) for member in value]
    return float(value) if isinstance(value, int) else value


@pytest.mark.parametrize(("path", "body"), WRITTEN)
async def test_an_integer_with_a_fraction_of_nothing_is_that_integer(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    response = await served.post(path, json=with_fractions(body))
    assert response.status_code == 200, response.text
    same = (await served.post(path, json=body)).json()
    assert {**response.json(), "request_id": same["request_id"]} == same


@pytest.mark.parametrize("seed", [1.5, float(MAX_SEED + 1), -1.0])
async def test_other_numbers_are_no_integers(served: Served, seed: float) -> None:
    problem = assert_problem(await served.post("vae/sample", json={"count": 1, "seed": seed}), InvalidContent)
    assert [fault["pointer"] for fault in problem["errors"]] == ["#/seed"]


async def test_a_count_beyond_all_integers_is_too_many_rows(served: Served) -> None:
    assert_problem(await served.post("vae/sample", content=b'{"count": 1e300}'), TooManyRows)


async def test_shapes_of_tensors_are_read_so_too(served: Served) -> None:
    tensor = {"name": "input", "shape": [2.0, 4.0], "datatype": "FP32", "data": ROWS}
    response = await served.client.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    assert response.status_code == 200, response.text


async def test_versions_to_load_are_read_so_too(models: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.json")
    async with serving(models, state_dir=tmp_path, api_keys_file=keys) as served:
        response = await served.client.post(
            "/v2/repository/models/tiny/load", json={"parameters": {"version": 1.0}}, headers={"X-API-Key": KEY}
        )
        assert (response.status_code, response.json()["pinned"]) == (200, "1")
