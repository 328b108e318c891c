"""What the shipped bundles answer over a real socket, for real images."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from bundle.calibration import Floats
from tests.e2e.conftest import SHIPPED, SHIRT, Server


def post(server: Server, path: str, body: object) -> dict[str, object]:
    response = httpx.post(f"{server.address}/v1/models/{path}", json=body, timeout=30)
    assert response.status_code == 200, response.text
    document: dict[str, object] = response.json()
    return document


def test_the_catalog_lists_exactly_the_shipped_bundles_and_refuses_none(server: Server) -> None:
    catalog = httpx.get(f"{server.address}/v1/models").json()
    assert [model["name"] for model in catalog["models"]] == SHIPPED
    assert catalog["refused"] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shirt_scores_normal_and_noise_is_flagged(server: Server, clothes: Floats, name: str) -> None:
    generator = np.random.default_rng(0)
    uniform = generator.random((50, 784), dtype=np.float32)
    gaussian = np.clip(generator.normal(0.5, 0.25, (50, 784)), 0, 1).astype(np.float32)
    shirt = post(server, f"{name}/anomaly-score", {"inputs": [clothes[SHIRT].tolist()]})
    noise = post(server, f"{name}/anomaly-score", {"inputs": np.concatenate([uniform, gaussian]).tolist()})
    assert shirt["is_anomaly"] == [False]
    assert noise["is_anomaly"] == [True] * 100


@pytest.mark.parametrize("name", SHIPPED)
def test_unseen_clothes_are_flagged_about_as_often_as_alpha_says(server: Server, clothes: Floats, name: str) -> None:
    buffer = io.BytesIO()
    np.save(buffer, clothes[:4000])
    path = f"{server.address}/v1/models/{name}/anomaly-score?alpha=0.05"
    answer = httpx.post(path, content=buffer.getvalue(), headers={"Content-Type": "application/x-npy"}, timeout=30)
    flagged = np.mean(np.asarray(answer.json()["is_anomaly"]))
    # Calibration and test rows come from two files of one collection; four standard deviations of the Beta law of
    # the rate given n = 4,000 calibration rows, and of 4,000 draws, are 0.02.
    assert 0.03 < flagged < 0.07


@pytest.mark.parametrize("name", SHIPPED)
def test_a_reconstruction_is_closer_to_its_input_than_the_mean_image_is(
    server: Server, clothes: Floats, name: str
) -> None:
    rows = clothes[:500]
    answer = post(server, f"{name}/reconstruct", {"inputs": rows.tolist()})
    outputs = np.asarray(answer["outputs"], dtype=np.float32)
    errors = np.asarray(answer["errors"])
    assert np.allclose(errors, np.square(rows - outputs).mean(axis=1), atol=1e-6)
    assert errors.mean() < 0.02 < np.square(rows - rows.mean(axis=0)).mean()


@pytest.mark.parametrize("name", ["fashion-denoising", "fashion-conv"])
def test_denoising_brings_a_noisy_image_closer_to_the_clean_one(server: Server, clothes: Floats, name: str) -> None:
    clean = clothes[:500]
    noisy = np.clip(clean + np.random.default_rng(1).normal(0, 0.2, clean.shape), 0, 1).astype(np.float32)
    answer = post(server, f"{name}/denoise", {"inputs": noisy.tolist()})
    outputs = np.asarray(answer["outputs"], dtype=np.float32)
    assert np.square(outputs - clean).mean() < 0.012 < np.square(noisy - clean).mean()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_picture_can_be_sent_and_received(server: Server, clothes: Floats, name: str) -> None:
    buffer = io.BytesIO()
    pixels = np.rint(clothes[SHIRT] * 255).astype(np.uint8)
    Image.fromarray(pixels.reshape(28, 28)).save(buffer, format="PNG")
    path = f"{server.address}/v1/models/{name}/reconstruct"
    picture = httpx.post(
        path, content=buffer.getvalue(), headers={"Content-Type": "image/png", "Accept": "image/png"}, timeout=30
    )
    assert picture.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(picture.content)), dtype=np.float32) / 255
    numbers = httpx.post(path, json={"inputs": [(pixels / 255).tolist()]}, timeout=30).json()["outputs"][0]
    assert shown.shape == (28, 28)
    # A linear output is not held within the range, a picture is.
    assert np.abs(shown.reshape(-1) - np.clip(numbers, 0, 1)).max() < 0.5 / 255 + 1e-4


def test_the_k_sparse_codes_have_at_most_32_values_that_are_not_zero(server: Server, clothes: Floats) -> None:
    latents = np.asarray(post(server, "fashion-k-sparse/encode", {"inputs": clothes[:500].tolist()})["latents"])
    assert latents.shape == (500, 400)
    assert ((latents != 0).sum(axis=1) <= 32).all()


def test_the_kl_sparse_units_are_active_as_often_as_their_target_says(server: Server, clothes: Floats) -> None:
    latents = np.asarray(post(server, "fashion-kl-sparse/encode", {"inputs": clothes[:2000].tolist()})["latents"])
    assert latents.mean() == pytest.approx(0.05, rel=0.1)


def test_decoding_the_codes_is_reconstruction(server: Server, clothes: Floats) -> None:
    for name in SHIPPED:
        inputs = {"inputs": clothes[:8].tolist()}
        latents = post(server, f"{name}/encode", inputs)["latents"]
        decoded = np.asarray(post(server, f"{name}/decode", {"latents": latents})["outputs"])
        reconstructed = np.asarray(post(server, f"{name}/reconstruct", inputs)["outputs"])
        assert np.allclose(decoded, reconstructed, atol=1e-5)


def test_samples_of_one_seed_are_the_same_rows_however_many_are_drawn(server: Server) -> None:
    many = post(server, "fashion-vae/sample", {"count": 8, "seed": 3})
    one = post(server, "fashion-vae/sample", {"count": 1, "seed": 3, "offset": 5})
    assert isinstance(many["latents"], list)
    assert many["latents"][5:6] == one["latents"]
    assert isinstance(many["outputs"], list)
    assert np.allclose(many["outputs"][5], np.asarray(one["outputs"])[0], atol=1e-5)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_interpolation_begins_and_ends_at_its_ends(server: Server, clothes: Floats, name: str) -> None:
    ends = clothes[[0, SHIRT]]
    answer = post(server, f"{name}/interpolate", {"start": ends[0].tolist(), "end": [ends[1].tolist()], "steps": 7})
    outputs = np.asarray(answer["outputs"])
    reconstructed = np.asarray(post(server, f"{name}/reconstruct", {"inputs": ends.tolist()})["outputs"])
    assert len(outputs) == 7
    assert np.allclose(outputs[[0, -1]], reconstructed, atol=1e-5)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_example_can_be_posted_back_as_it_came(server: Server, name: str) -> None:
    example = httpx.get(f"{server.address}/v1/models/{name}/examples/{SHIRT}").content
    answer = httpx.post(f"{server.address}/v1/models/{name}/anomaly-score", content=example, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["is_anomaly"] == [False]
