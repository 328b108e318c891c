"""The operations over HTTP with JSON: the arithmetic of the tiny bundle, in the shape that the document promises."""

from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel

from bundle.operations import Method
from service.api import schemas
from service.errors import InvalidContent, OperationNotSupported
from service.operations import MAX_SEED, draw_codes, path_between
from service.operations import InterpolationMethod as Path
from tests.bundle_factory import CALIBRATION, run
from tests.service.serving import ROWS, Served, assert_problem, assert_valid

INPUTS = np.array(ROWS, np.float32)
CODES = INPUTS[:, :2]


async def answer_of(served: Served, path: str, answer: type[BaseModel], /, **fields: object) -> dict[str, Any]:
    """The answer to a JSON request, checked against its pydantic model, the OpenAPI document and the response fields;
    without the members that every answer has, and those as they should be."""
    response = await served.post(path, json=fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert set(found) <= set(answer.model_fields)
    answer.model_validate(found, strict=True)
    operation_id = path.rpartition("/")[2].replace("-", "_") + ("_version" if "/versions/" in path else "")
    assert_valid(served.app.openapi(), operation_id, response)
    assert response.headers["content-type"] == "application/json"
    assert (response.headers["cache-control"], response.headers["vary"]) == ("no-store", "Accept, Accept-Encoding")
    model = served.repository.get(path.partition("/")[0], path.split("/")[2] if "/versions/" in path else None)
    assert (found.pop("model"), found.pop("version")) == (model.manifest.name, model.manifest.version)
    assert found.pop("digest") == model.digest
    assert found.pop("request_id") == response.headers["x-request-id"]
    return found


async def test_encode(served: Served) -> None:
    found = await answer_of(served, "tiny/encode", schemas.EncodeAnswer, inputs=ROWS)
    assert found == {"latents": CODES.tolist(), "warnings": []}


async def test_encode_with_log_variances(served: Served) -> None:
    found = await answer_of(served, "vae/encode", schemas.EncodeAnswer, inputs=ROWS, log_variances=True)
    assert found == {"latents": CODES.tolist(), "log_variances": [[0, 0], [0, 0]], "warnings": []}


async def test_decode(served: Served) -> None:
    found = await answer_of(served, "tiny/decode", schemas.DecodeAnswer, latents=CODES.tolist())
    assert found == {"outputs": np.hstack([CODES, CODES]).tolist(), "warnings": []}


async def test_reconstruct(served: Served) -> None:
    found = await answer_of(served, "tiny/reconstruct", schemas.ReconstructAnswer, inputs=ROWS)
    outputs = np.hstack([CODES, CODES])
    errors = ((INPUTS - outputs) ** 2).mean(axis=1)
    assert found == {"outputs": outputs.tolist(), "errors": errors.tolist(), "warnings": []}


async def test_denoise(served: Served) -> None:
    found = await answer_of(served, "denoiser/denoise", schemas.DenoiseAnswer, inputs=ROWS)
    assert found == {"outputs": np.hstack([CODES, CODES]).tolist(), "warnings": []}


async def test_anomaly_score(served: Served) -> None:
    found = await answer_of(served, "tiny/anomaly-score", schemas.AnomalyScoreAnswer, inputs=ROWS, alpha=0.1)
    (scores,) = run(Method.ANOMALY_SCORE, INPUTS)
    p_values = CALIBRATION.p_values(scores)
    assert found == {
        "scores": scores.tolist(),
        "p_values": p_values.tolist(),
        "is_anomaly": (p_values <= 0.1).tolist(),
        "threshold": pytest.approx(float(CALIBRATION.threshold(0.1))),
        "policy": {"kind": "alpha", "alpha": 0.1},
        "calibration_size": 19,
        "warnings": [],
    }


async def test_anomaly_score_with_maps(served: Served) -> None:
    found = await answer_of(served, "tiny/anomaly-score", schemas.AnomalyScoreAnswer, inputs=ROWS, alpha=0.5, maps=True)
    assert found["maps"] == run(Method.ANOMALY_MAP, INPUTS)[0].tolist()


async def test_anomaly_score_by_a_threshold(served: Served) -> None:
    found = await answer_of(served, "tiny/anomaly-score", schemas.AnomalyScoreAnswer, inputs=ROWS, threshold=0.2)
    scores = run(Method.ANOMALY_SCORE, INPUTS)[0]
    assert found["is_anomaly"] == (scores > 0.2).tolist()
    assert found["policy"] == {"kind": "threshold", "alpha": None}
    assert found["threshold"] == pytest.approx(0.2)


async def test_anomaly_score_says_when_the_calibration_is_too_small_for_the_default_alpha(served: Served) -> None:
    found = await answer_of(served, "tiny/anomaly-score", schemas.AnomalyScoreAnswer, inputs=ROWS)
    assert found["policy"] == {"kind": "alpha", "alpha": 0.05}
    assert found["warnings"] == ["19 calibration scores cannot resolve the default alpha of 0.01: 0.05 was used"]


async def test_anomaly_score_of_an_uncalibrated_bundle(served: Served) -> None:
    found = await answer_of(served, "raw/anomaly-score", schemas.AnomalyScoreAnswer, inputs=ROWS)
    assert found == {
        "scores": run(Method.ANOMALY_SCORE, INPUTS)[0].tolist(),
        "p_values": None,
        "is_anomaly": None,
        "threshold": None,
        "policy": {"kind": "none", "alpha": None},
        "calibration_size": 0,
        "warnings": [],
    }


async def test_sample(served: Served) -> None:
    found = await answer_of(
        served, "vae/sample", schemas.SampleAnswer, count=3, seed=MAX_SEED, offset=5, temperature=0.5
    )
    latents = draw_codes(2, seed=MAX_SEED, offset=5, count=3) * np.float32(0.5)
    assert np.array(found.pop("latents"), np.float32).tobytes() == latents.tobytes()
    assert np.array(found.pop("outputs"), np.float32).tobytes() == np.hstack([latents, latents]).tobytes()
    assert found == {"seed": MAX_SEED, "warnings": []}


async def test_the_last_rows_of_a_seed_can_be_drawn(served: Served) -> None:
    found = await answer_of(served, "vae/sample", schemas.SampleAnswer, count=3, seed=1, offset=MAX_SEED - 2)
    latents = draw_codes(2, seed=1, offset=MAX_SEED - 2, count=3)
    assert np.array(found["latents"], np.float32).tobytes() == latents.tobytes()


async def test_sample_without_a_seed_names_the_one_it_drew(served: Served) -> None:
    found = await answer_of(served, "vae/sample", schemas.SampleAnswer, count=2)
    again = await answer_of(served, "vae/sample", schemas.SampleAnswer, count=2, seed=found["seed"])
    assert again == found


@pytest.mark.parametrize("method", list(Path))
@pytest.mark.parametrize("nested", [False, True])
async def test_interpolate_between_inputs(served: Served, method: Path, nested: bool) -> None:
    start, end = (INPUTS[row].reshape(2, 2) if nested else INPUTS[row : row + 1] for row in (0, 1))
    found = await answer_of(
        served,
        "tiny/interpolate",
        schemas.InterpolateAnswer,
        start=start.tolist(),
        end=end.tolist(),
        steps=3,
        method=method,
    )
    latents = path_between(CODES[0], CODES[1], steps=3, method=method)
    np.testing.assert_array_equal(np.array(found["latents"], np.float32), latents)
    np.testing.assert_array_equal(np.array(found["outputs"], np.float32), np.hstack([latents, latents]))


async def test_interpolate_between_codes(served: Served) -> None:
    found = await answer_of(
        served, "tiny/interpolate", schemas.InterpolateAnswer, space="latents", start=[0, 1], end=[[1, 0]], steps=3
    )
    assert found["latents"] == [[0, 1], [0.5, 0.5], [1, 0]]


async def test_interpolate_between_seeds_goes_from_sample_to_sample(served: Served) -> None:
    found = await answer_of(
        served, "vae/interpolate", schemas.InterpolateAnswer, space="seeds", start=3, end=[4], steps=2
    )
    for index, seed in enumerate((3, 4)):
        sampled = await answer_of(served, "vae/sample", schemas.SampleAnswer, count=1, seed=seed)
        assert found["latents"][index] == sampled["latents"][0]
        assert found["outputs"][index] == sampled["outputs"][0]


async def test_seeds_are_for_bundles_with_a_prior(served: Served) -> None:
    fields = {"space": "seeds", "start": 3, "end": 4, "steps": 2}
    assert_problem(await served.post("tiny/interpolate", json=fields), OperationNotSupported)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("encode", {"inputs": ROWS}),
        ("decode", {"latents": [[0, 1]]}),
        ("reconstruct", {"inputs": ROWS}),
        ("anomaly-score", {"inputs": ROWS, "alpha": 0.5}),
        ("interpolate", {"start": ROWS[0], "end": ROWS[1], "steps": 2}),
    ],
)
async def test_a_named_version_answers_the_same_under_its_own_digest(
    served: Served, operation: str, fields: dict[str, object]
) -> None:
    answers = {}
    for version in (1, 2):
        response = await served.post(f"tiny/versions/{version}/{operation}", json=fields)
        assert_valid(served.app.openapi(), f"{operation.replace('-', '_')}_version", response)
        answers[version] = response.json()
        assert answers[version]["version"] == version
    assert answers[1]["digest"] != answers[2]["digest"]
    for answer in answers.values():
        for name in ("version", "digest", "request_id"):
            del answer[name]
    assert answers[1] == answers[2]


async def test_values_outside_the_training_range_are_answered_with_a_warning(served: Served) -> None:
    found = await answer_of(served, "tiny/encode", schemas.EncodeAnswer, inputs=[[0, 64, 128, 255]])
    assert found["latents"] == [[0, 64]]
    (warning,) = found["warnings"]
    assert "divide them by 255" in warning


CASES: list[tuple[str, dict[str, object], str, str]] = [
    ("tiny/encode", {}, "#/inputs", "Field required"),
    ("tiny/encode", {"inputs": []}, "#/inputs", "there are no rows"),
    ("tiny/encode", {"inputs": ROWS, "inptus": 1}, "#/inptus", "unknown field; the fields are inputs, log_variances"),
    ("tiny/encode", {"inputs": ROWS, "a/b~c": 1}, "#/a~1b~0c", "unknown field; the fields are inputs, log_variances"),
    ("vae/encode", {"inputs": ROWS, "log_variances": "yes"}, "#/log_variances", "Input should be a valid boolean"),
    ("tiny/anomaly-score", {"inputs": ROWS, "alpha": 0.5, "threshold": 1}, "#", "give alpha or threshold, not both"),
    ("tiny/anomaly-score", {"inputs": ROWS, "alpha": "0.5"}, "#/alpha", "Input should be a valid number"),
    ("tiny/anomaly-score", {"inputs": ROWS, "alpha": 1}, "#/alpha", "with 19 calibration scores no p-value"),
    ("tiny/anomaly-score", {"inputs": ROWS, "threshold": 1e39}, "#/threshold", "Input should be less than or equal"),
    ("vae/sample", {"count": 0}, "#/count", "Input should be greater than or equal to 1"),
    ("vae/sample", {"count": 1.5}, "#/count", "Input should be a valid integer"),
    ("vae/sample", {"count": True}, "#/count", "Input should be a valid integer"),
    ("vae/sample", {"count": 1, "seed": -1}, "#/seed", "Input should be greater than or equal to 0"),
    ("vae/sample", {"count": 1, "seed": MAX_SEED + 1}, "#/seed", "Input should be less than or equal to"),
    ("vae/sample", {"count": 2, "offset": MAX_SEED}, "#/offset", f"rows are numbered up to {MAX_SEED}"),
    ("vae/sample", {"count": 1, "temperature": -1}, "#/temperature", "Input should be greater than or equal to 0"),
    ("tiny/interpolate", {"start": ROWS[0], "end": ROWS[1], "steps": 1}, "#/steps", "Input should be greater"),
    ("tiny/interpolate", {"start": 3, "end": ROWS[1], "steps": 2}, "#/start", "a number stands where the array"),
    ("tiny/interpolate", {"start": ROWS[0], "end": [[1]], "steps": 2}, "#/end/0", "the array has 1 elements, not 4"),
    (
        "tiny/interpolate",
        {"start": ROWS[0], "end": ROWS[1], "steps": 2, "method": "arc"},
        "#/method",
        "Input should be",
    ),
    ("tiny/interpolate", {"start": ROWS[0], "end": ROWS[1], "steps": 2, "space": "x"}, "#/space", "Input should be"),
    ("vae/interpolate", {"space": "seeds", "start": -1, "end": 2, "steps": 2}, "#/start", "an integer from 0 to"),
    ("vae/interpolate", {"space": "seeds", "start": 1, "end": True, "steps": 2}, "#/end", "an integer from 0 to"),
]


@pytest.mark.parametrize(("path", "fields", "pointer", "detail"), CASES)
async def test_a_wrong_field_is_pointed_at_and_explained(
    served: Served, path: str, fields: dict[str, object], pointer: str, detail: str
) -> None:
    problem = assert_problem(await served.post(path, json=fields), InvalidContent)
    (fault,) = problem["errors"]
    assert fault["pointer"] == pointer
    assert fault["detail"].startswith(detail), fault["detail"]


async def test_all_wrong_fields_are_named_at_once(served: Served) -> None:
    fields = {"count": 0, "seed": -1, "temperature": "hot", "extra": 1}
    response: httpx.Response = await served.post("vae/sample", json=fields)
    problem = assert_problem(response, InvalidContent)
    assert {fault["pointer"] for fault in problem["errors"]} == {"#/count", "#/seed", "#/temperature", "#/extra"}
