"""Bodies and answers that are no JSON: .npy and pictures in and out, negotiated, with the rest in response fields."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from bundle.calibration import Floats
from bundle.operations import Method
from service.codecs.images import heat_png_from_maps, png_from_rows
from service.codecs.npy import npy_from_rows
from service.errors import InvalidContent, NotAcceptable, UnsupportedMediaType
from service.operations import draw_codes
from tests.bundle_factory import CALIBRATION, run
from tests.service.serving import ROWS, Served, assert_problem

INPUTS = np.array(ROWS, np.float32)
CODES = INPUTS[:, :2]
OUTPUTS = np.hstack([CODES, CODES])
SHADES = np.array([[0, 64], [128, 255]], np.uint8)
ROW = SHADES.reshape(1, 4) / np.float32(255)

NPY = {"Content-Type": "application/x-npy"}
TO_NPY = {"Accept": "application/x-npy"}
TO_PNG = {"Accept": "image/png"}


def picture(image_format: str = "PNG", size: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.kron(SHADES, np.ones((size, size), np.uint8))).save(buffer, format=image_format)
    return buffer.getvalue()


def loaded(response: httpx.Response) -> Floats:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npy"
    array: Floats = np.load(io.BytesIO(response.content), allow_pickle=False)
    return array


def fields_of(response: httpx.Response) -> dict[str, str]:
    """The Diabolo-* fields, without those that every answer has, and those as they should be."""
    fields = {name: value for name, value in response.headers.items() if name.startswith("diabolo-")}
    assert fields.pop("diabolo-model") in {"tiny", "vae", "denoiser", "raw"}
    assert fields.pop("diabolo-version") in {"1", "2"}
    assert len(fields.pop("diabolo-digest")) == 64
    assert (response.headers["vary"], response.headers["cache-control"]) == ("Accept", "no-store")
    return fields


ON_INPUTS = [("tiny/encode", CODES), ("tiny/reconstruct", OUTPUTS), ("denoiser/denoise", OUTPUTS)]


@pytest.mark.parametrize(
    ("path", "expected"), [*ON_INPUTS, ("tiny/anomaly-score", run(Method.ANOMALY_SCORE, INPUTS)[0])]
)
@pytest.mark.parametrize("content_type", ["application/x-npy", "application/x-numpy"])
async def test_npy_in_and_npy_out(served: Served, path: str, expected: Floats, content_type: str) -> None:
    headers = {"Content-Type": content_type, **TO_NPY}
    found = loaded(await served.post(path, content=npy_from_rows(INPUTS), headers=headers))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


async def test_codes_travel_as_npy_both_ways(served: Served) -> None:
    response = await served.post("tiny/decode", content=npy_from_rows(CODES), headers=NPY | TO_NPY)
    np.testing.assert_array_equal(loaded(response), OUTPUTS)
    assert fields_of(response) == {}


@pytest.mark.parametrize("path", ["tiny/encode", "tiny/reconstruct", "denoiser/denoise", "tiny/anomaly-score"])
@pytest.mark.parametrize("content_type", ["image/png", "IMAGE/PNG", "image/png; x=y"])
async def test_a_png_is_one_row(served: Served, path: str, content_type: str) -> None:
    as_picture = (await served.post(path, content=picture(), headers={"Content-Type": content_type})).json()
    as_json = (await served.post(path, json={"inputs": ROW.tolist()})).json()
    assert as_picture.pop("request_id") != as_json.pop("request_id")
    assert as_picture == as_json


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/jpg"])
async def test_a_jpeg_is_one_row_nearly(served: Served, content_type: str) -> None:
    response = await served.post("tiny/encode", content=picture("JPEG"), headers={"Content-Type": content_type})
    np.testing.assert_allclose(response.json()["latents"], ROW[:, :2], atol=0.1)


async def test_rows_are_answered_as_a_png_of_the_same_pixels(served: Served) -> None:
    for path, body in (
        ("tiny/decode", {"latents": CODES.tolist()}),
        ("tiny/reconstruct", {"inputs": ROWS}),
        ("denoiser/denoise", {"inputs": ROWS}),
    ):
        response = await served.post(path, json=body, headers=TO_PNG)
        assert response.headers["content-type"] == "image/png"
        image = served.repository.get("tiny").manifest.input.image
        assert image is not None
        assert response.content == png_from_rows(OUTPUTS, spec=image, value_range=(0, 1))


async def test_samples_and_paths_are_answered_as_grids(served: Served) -> None:
    sampled = await served.post("vae/sample", json={"count": 9, "seed": 1}, headers=TO_PNG)
    assert Image.open(io.BytesIO(sampled.content)).size == (3 * 4 - 2, 3 * 4 - 2)
    assert fields_of(sampled) == {"diabolo-seed": "1", "diabolo-omitted": "latents"}
    path = {"start": ROWS[0], "end": ROWS[1], "steps": 5}
    walked = await served.post("tiny/interpolate", json=path, headers=TO_PNG)
    assert Image.open(io.BytesIO(walked.content)).size == (5 * 4 - 2, 2), "a path is one line"
    long = await served.post("tiny/interpolate", json=path | {"steps": 17}, headers=TO_PNG)
    assert Image.open(io.BytesIO(long.content)).size == (16 * 4 - 2, 2 * 4 - 2), "but at most sixteen wide"


async def test_anomalies_are_answered_as_a_heat_map_whether_maps_were_asked_for_or_not(served: Served) -> None:
    manifest = served.repository.get("tiny").manifest
    assert manifest.input.image is not None
    assert manifest.score.map_ceiling is not None
    (maps,) = run(Method.ANOMALY_MAP, INPUTS)
    heat = heat_png_from_maps(maps, spec=manifest.input.image, ceiling=manifest.score.map_ceiling)
    for asked in (False, True):
        response = await served.post("tiny/anomaly-score", json={"inputs": ROWS, "maps": asked}, headers=TO_PNG)
        assert response.content == heat
        assert "diabolo-omitted" not in response.headers


async def test_what_the_main_array_does_not_hold_stands_in_response_fields(served: Served) -> None:
    body = {"inputs": ROWS, "alpha": 0.1}
    as_json = (await served.post("tiny/anomaly-score", json=body)).json()
    fields = fields_of(await served.post("tiny/anomaly-score", json=body, headers=TO_NPY))
    assert fields == {
        "diabolo-p-values": ", ".join(map(str, as_json["p_values"])),
        "diabolo-is-anomaly": ", ".join("true" if verdict else "false" for verdict in as_json["is_anomaly"]),
        "diabolo-threshold": str(as_json["threshold"]),
        "diabolo-policy": '{"kind":"alpha","alpha":0.1}',
        "diabolo-calibration-size": str(CALIBRATION.size),
    }
    errors = (await served.post("tiny/reconstruct", json={"inputs": ROWS})).json()["errors"]
    for accepted in (TO_NPY, TO_PNG):
        response = await served.post("tiny/reconstruct", json={"inputs": ROWS}, headers=accepted)
        assert fields_of(response) == {"diabolo-errors": ", ".join(map(str, errors))}


async def test_undefined_values_are_null_in_response_fields_too(served: Served) -> None:
    fields = fields_of(await served.post("raw/anomaly-score", json={"inputs": ROWS}, headers=TO_NPY))
    assert fields["diabolo-p-values"] == fields["diabolo-is-anomaly"] == fields["diabolo-threshold"] == "null"


async def test_a_warning_is_a_response_field_where_there_is_no_json(served: Served) -> None:
    body = {"inputs": [[0, 64, 128, 255]]}
    (warning,) = (await served.post("tiny/encode", json=body)).json()["warnings"]
    response = await served.post("tiny/encode", json=body, headers=TO_NPY)
    assert fields_of(response) == {"diabolo-warnings": warning}


@pytest.mark.parametrize(("rows", "omitted"), [(64, None), (65, "errors")])
async def test_what_is_too_long_for_a_response_field_is_named(served: Served, rows: int, omitted: str | None) -> None:
    response = await served.post("tiny/reconstruct", json={"inputs": ROWS[:1] * rows}, headers=TO_NPY)
    fields = fields_of(response)
    assert fields.get("diabolo-omitted") == omitted
    assert ("diabolo-errors" in fields) == (omitted is None)
    assert len(loaded(response)) == rows


async def test_matrices_beside_the_main_array_are_named_however_small(served: Served) -> None:
    body = {"inputs": ROWS, "log_variances": True}
    response = await served.post("vae/encode", json=body, headers=TO_NPY)
    assert fields_of(response) == {"diabolo-omitted": "log_variances"}
    response = await served.post("vae/sample", json={"count": 1, "seed": 7}, headers=TO_NPY)
    assert fields_of(response) == {"diabolo-omitted": "latents", "diabolo-seed": "7"}
    codes = draw_codes(2, seed=7, offset=0, count=1)
    np.testing.assert_array_equal(loaded(response), np.hstack([codes, codes]))


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("image/*", "image/png"),
        ("image/png", "image/png"),
        ("application/x-npy", "application/x-npy"),
        ("image/png;q=0.2, application/x-npy;q=0.4", "application/x-npy"),
        ("image/png, */*;q=0.1", "image/png"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0, application/x-npy;q=0.1", "application/x-npy"),
        ("application/json;q=0, */*", "application/x-npy"),
        ("image/png;q=0, image/*;q=0.5, application/x-npy;q=0.1", "application/x-npy"),
        ("text/html", None),
        ("image/jpeg", None),
        ("*/*;q=0", None),
        ("nonsense", None),
    ],
)
async def test_the_answer_is_what_accept_likes_best(served: Served, accept: str | None, media: str | None) -> None:
    request = served.client.build_request("POST", "/v1/models/tiny/reconstruct", json={"inputs": ROWS})
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    response = await served.client.send(request)
    if media is None:
        problem = assert_problem(response, NotAcceptable)
        assert problem["detail"] == "this answer can be given as application/json, application/x-npy, image/png"
    else:
        assert (response.status_code, response.headers["content-type"]) == (200, media)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tiny/encode", {"inputs": ROWS}),
        ("wide/decode", {"latents": [[1, 2, 3]]}),
        ("wide/encode", {"inputs": [[0] * 6]}),
    ],
)
async def test_codes_and_rows_that_are_no_image_are_no_picture(served: Served, path: str, body: object) -> None:
    problem = assert_problem(await served.post(path, json=body, headers=TO_PNG), NotAcceptable)
    assert problem["detail"] == "this answer can be given as application/json, application/x-npy"


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "application/octet-stream"])
@pytest.mark.parametrize("kind", ["json", "npy", "png", "jpeg"])
async def test_a_body_that_does_not_say_what_it_is_is_known_by_its_first_bytes(
    served: Served, content_type: str | None, kind: str
) -> None:
    """What `curl --data-binary @shirt.png` sends."""
    content = {
        "json": b'{"inputs": [[0, 0.25, 0.5, 1]]}',
        "npy": npy_from_rows(INPUTS[:1]),
        "png": picture(),
        "jpeg": picture("JPEG"),
    }[kind]
    headers = {"Content-Type": content_type} if content_type else {}
    response = await served.post("tiny/encode", content=content, headers=headers)
    assert response.status_code == 200, response.text
    np.testing.assert_allclose(response.json()["latents"], [[0, 0.25]], atol=0.1)


ALL = "application/json, application/x-npy, application/x-ndjson, image/png, image/jpeg"


@pytest.mark.parametrize(
    ("path", "content_type", "content", "accepted"),
    [
        ("tiny/encode", "text/csv", b"0,1", ALL),
        ("tiny/encode", "image/gif", b"GIF89a", ALL),
        ("tiny/encode", "multipart/form-data; boundary=x", b"--x--", ALL),
        ("tiny/decode", "image/png", picture(), "application/json, application/x-npy, application/x-ndjson"),
        ("wide/encode", "image/png", picture(), "application/json, application/x-npy, application/x-ndjson"),
        ("wide/encode", None, picture(), "application/json, application/x-npy, application/x-ndjson"),
        ("vae/sample", "application/x-npy", npy_from_rows(INPUTS), "application/json"),
        ("tiny/interpolate", None, picture(), "application/json"),
    ],
)
async def test_a_body_that_the_operation_does_not_read_is_refused_with_those_that_it_does(
    served: Served, path: str, content_type: str | None, content: bytes, accepted: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await served.post(path, content=content, headers=headers)
    problem = assert_problem(response, UnsupportedMediaType)
    assert response.headers["accept"] == accepted
    assert f"reads {accepted} here" in problem["detail"]


async def test_a_media_type_of_any_length_is_named_in_short(served: Served) -> None:
    response = await served.post("tiny/encode", content=b"", headers={"Content-Type": "text/" + "x" * 10_000})
    assert len(assert_problem(response, UnsupportedMediaType)["detail"]) < 250


async def test_beside_a_binary_body_the_parameters_go_into_the_query(served: Served) -> None:
    body = npy_from_rows(INPUTS)
    response = await served.post("tiny/anomaly-score?alpha=0.5&maps=true", content=body, headers=NPY)
    assert response.json()["policy"] == {"kind": "alpha", "alpha": 0.5}
    assert response.json()["maps"] == run(Method.ANOMALY_MAP, INPUTS)[0].tolist()
    response = await served.post("tiny/anomaly-score?threshold=0.25", content=picture(), headers={})
    assert response.json()["policy"] == {"kind": "threshold", "alpha": None}
    response = await served.post("vae/encode?log_variances=1", content=body, headers=NPY)
    assert response.json()["log_variances"] == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("alpha=high", "#/alpha", "Input should be a valid number"),
        ("alpha=nan", "#/alpha", "Input should be a finite number"),
        ("alpha=0.1&threshold=1", "#", "give alpha or threshold, not both"),
        ("alhpa=0.1", "#/alhpa", "unknown field; the fields are inputs, alpha, threshold, maps"),
        ("alpha=0.1&alpha=0.2", "#", "found"),
        ("inputs=1", "#", "found"),
    ],
)
async def test_a_wrong_query_is_refused_as_a_wrong_field_is(
    served: Served, query: str, pointer: str, detail: str
) -> None:
    response = await served.post(f"tiny/anomaly-score?{query}", content=npy_from_rows(INPUTS), headers=NPY)
    (fault,) = assert_problem(response, InvalidContent)["errors"]
    assert fault["pointer"] == pointer
    assert fault["detail"].startswith(detail)


async def test_beside_json_the_query_is_refused_because_it_would_be_ignored(served: Served) -> None:
    problem = assert_problem(await served.post("tiny/anomaly-score?alpha=0.5", json={"inputs": ROWS}), InvalidContent)
    assert problem["errors"] == [
        {"detail": "move this parameter from the query into the body", "pointer": "#/alpha"},
    ]
