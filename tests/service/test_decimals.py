"""Numbers in JSON: exact float32 unless decimals are asked for, then the nearest with no more digits than that."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.answers import Answer
from service.errors import InvalidContent
from tests.service.serving import Served, assert_problem

ROW = [0.123456789, 1 / 3, 0.5, 0.00004]
EXACT = [float(str(np.float32(value))) for value in ROW]


@pytest.mark.parametrize(
    ("decimals", "expected"), [(None, EXACT[:2]), (0, [0, 0]), (2, [0.12, 0.33]), (8, [0.12345679, 0.33333334])]
)
async def test_codes_are_rounded(served: Served, decimals: int | None, expected: list[float]) -> None:
    response = await served.post("tiny/encode", json={"inputs": [ROW], "decimals": decimals})
    assert response.json()["latents"] == [expected]


async def test_scores_p_values_and_the_threshold_are_rounded_and_the_verdict_is_not(served: Served) -> None:
    body: dict[str, Any] = {"inputs": [ROW, [0, 0, 0, 0.1]], "alpha": 0.15}
    exact = (await served.post("tiny/anomaly-score", json=body)).json()
    short = (await served.post("tiny/anomaly-score", json={**body, "decimals": 1})).json()
    assert short["scores"] == [round(value, 1) for value in exact["scores"]]
    assert (exact["p_values"], short["p_values"]) == ([0.9, 0.95], [0.9, 1.0])
    assert short["threshold"] == round(exact["threshold"], 1)
    for name in ("is_anomaly", "policy", "calibration_size"):
        assert short[name] == exact[name]


@pytest.mark.parametrize("path", ["vae/sample", "tiny/interpolate"])
async def test_what_is_made_is_rounded_too(served: Served, path: str) -> None:
    asked = {"count": 3, "seed": 1} if path == "vae/sample" else {"start": ROW, "end": [1, 1, 1, 1], "steps": 4}
    answer = (await served.post(path, json={**asked, "decimals": 3})).json()
    assert np.array_equal(np.round(answer["outputs"], 3), answer["outputs"])


async def test_the_lines_of_a_stream_are_rounded(served: Served) -> None:
    response = await served.post(
        "tiny/reconstruct",
        content=json.dumps(ROW),
        params={"decimals": "2"},
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert response.text.startswith('{"index":0,"output":[0.12,0.33,0.12,0.33],"error":0.06}\n')


@pytest.mark.parametrize("decimals", [-1, 9, 1.5, "2", True, [2]])
async def test_other_decimals_are_refused(served: Served, decimals: object) -> None:
    response = await served.post("tiny/encode", json={"inputs": [ROW], "decimals": decimals})
    problem = assert_problem(response, InvalidContent)
    assert [fault["pointer"] for fault in problem["errors"]] == ["#/decimals"]


float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    value=float32 | st.integers(-(10**6), 10**6).map(lambda n: float(np.float32(n / 1000))), decimals=st.integers(0, 8)
)
def test_no_number_has_more_decimals_than_asked_for_and_none_is_further_off_than_half_of_the_last(
    value: float, decimals: int
) -> None:
    exact = np.array([value], dtype=np.float32)
    (rounded,) = Answer(main="x", fields={"x": exact}).printed(decimals).values()
    text = orjson.dumps(rounded, option=orjson.OPT_SERIALIZE_NUMPY).decode()[1:-1]
    exponent = Decimal(text).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    assert -exponent <= decimals
    assert not text.startswith("-0.0") or float(text) != 0
    assert isinstance(rounded, np.ndarray)
    assert rounded.dtype == np.float32
    # Half of the last decimal, and what float32 cannot tell apart.
    off = abs(Decimal(float(rounded[0])) - Decimal(value))
    assert off <= Decimal(10) ** -decimals / 2 + Decimal(float(np.spacing(np.abs(exact[0]))))
