"""Own data from the file to the bundle: a sound configuration for every family, and units that a service never sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.operations import Method
from bundle.read import Bundle, read_bundle
from training.config import Config
from training.data import split
from training.dataset import DataSet
from training.defaults import FAMILIES, Choices, configuration, shares
from training.errors import ConfigInvalid, DataUnavailable
from training.export import Artefact
from training.networks import build
from training.publish import Places, publish
from training.sources.files import Files

SCALES = np.array([1e6, 1, 1e-3, 50])
MEANS = np.array([3e6, 0, 0, -20])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """200 rows of four features of very different size that vary in two directions, with a label."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(200, 2)) @ generator.normal(size=(2, 4)) + 0.1 * generator.normal(size=(200, 4))
    lines = [",".join(map(repr, map(float, MEANS + SCALES * row))) for row in values]
    states = ["worn" if index % 9 == 0 else "ok" for index in range(200)]
    text = "\n".join(f"{line},{state}" for line, state in zip(lines, states, strict=True))
    (tmp_path / "pumps.csv").write_text(f"flow,pressure,vibration,temperature,state\n{text}\n")
    return tmp_path / "pumps.csv"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """60 grey pictures of 6 x 5 pixels."""
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for index in range(60):
        pixels = generator.integers(0, 256, (5, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index:02}.png")
    return tmp_path / "pictures"


def prepared(path: Path, **choices: object) -> tuple[Config, DataSet]:
    label = "state" if path.suffix == ".csv" else None
    chosen = Choices(**{"epochs": 2, **choices})  # type: ignore[arg-type]  # a value of each field's own type
    config, data = configuration(Files(path=str(path), label=label), chosen, name="own", folder=path.parent / "runs")
    return replace(config, fitting=replace(config.fitting, threads=1)), data


def published(path: Path, places: Places, **choices: object) -> Bundle:
    config, data = prepared(path, **choices)
    return read_bundle(publish(config, places, data=data, command="diabolo train").path)


@pytest.mark.parametrize("kind", ["table", "pictures"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_sound_configuration(family: str, kind: str, request: pytest.FixtureRequest) -> None:
    config, data = prepared(request.getfixturevalue(kind), family=family)
    config.check()
    network = build(
        data.size, config.architecture, variational=config.variational, range=data.range, seed=0, image=data.image
    )
    loss = config.objective.loss(network, data.features[:32], torch.Generator().manual_seed(0))
    assert torch.isfinite(loss)


@pytest.mark.parametrize("family", ["vanilla", "variational", "denoising"])
def test_a_table_becomes_a_bundle_in_its_own_units(table: Path, places: Places, family: str) -> None:
    bundle = published(table, places, family=family, latent=2, epochs=60)
    _, data = prepared(table)
    manifest, artefact = bundle.manifest, Artefact(bundle.files["model.pt"])
    assert manifest.input.feature_names == ("flow", "pressure", "vibration", "temperature")
    assert (manifest.input.range, manifest.input.image) == (None, None)
    assert bundle.golden.replay(artefact.run) == 0

    config, _ = prepared(table, family=family)
    train = data.features[split(data, config.splits, seed=0).train].numpy()
    np.testing.assert_allclose(manifest.statistics.mean, train.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(manifest.statistics.standard_deviation, train.std(axis=0, dtype=np.float64), rtol=1e-5)

    rows = data.features[:].numpy()
    (outputs,) = artefact.run(Method.RECONSTRUCT, rows)
    deviations = rows.std(axis=0)
    assert (np.abs(outputs - rows).mean(axis=0) < 0.6 * deviations).all()
    (scores,), (maps,) = artefact.run(Method.ANOMALY_SCORE, rows), artefact.run(Method.ANOMALY_MAP, rows)
    np.testing.assert_allclose(maps.mean(axis=1), scores, rtol=1e-5)


def test_no_feature_outweighs_the_others_by_its_unit(table: Path, places: Places) -> None:
    artefact = Artefact(published(table, places, family="linear", latent=2, epochs=60).files["model.pt"])
    row = prepared(table)[1].features[:1].numpy()
    scores = []
    for feature, scale in enumerate(SCALES):
        odd = row.copy()
        odd[0, feature] += 20 * scale
        scores.append(artefact.run(Method.ANOMALY_SCORE, odd)[0].item())
    assert max(scores) < 30 * min(scores)
    assert min(scores) > 10 * artefact.run(Method.ANOMALY_SCORE, row)[0].item()


def test_figures_are_in_standard_deviations(table: Path, places: Places) -> None:
    metrics = published(table, places, family="vanilla", latent=2, epochs=60).manifest.metrics
    assert metrics["principal_components_mse"] < metrics["reconstruct_mse"] < 0.5


def test_the_card_of_a_table_names_its_features_and_calls_with_rows(table: Path, places: Places) -> None:
    card = published(table, places).files["CARD.md"].decode()
    assert "objects by feature name: `flow`, `pressure`, `vibration`, `temperature`" in card
    assert "squared standard deviations of the training rows" in card
    assert "png" not in card


def test_a_folder_of_pictures_becomes_a_bundle(pictures: Path, places: Places) -> None:
    bundle = published(pictures, places, latent=2)
    image = bundle.manifest.input.image
    assert image is not None
    assert (image.height, image.width, image.channels, bundle.manifest.input.range) == (5, 6, 1, (0, 1))
    assert "preview.png" in bundle.files
    assert bundle.manifest.provenance.data_source == "the pictures in pictures"


def test_grey_pictures_are_judged_by_the_roots_of_their_values_unless_told_otherwise(pictures: Path) -> None:
    config, _ = prepared(pictures)
    assert (config.exponent, config.score) == (1 / 3, "negative_elbo")
    plain, _ = prepared(pictures, exponent=1.0, score="weighted_error")
    assert (plain.exponent, plain.score) == (1, "weighted_error")


def test_an_exponent_is_refused_for_a_table(table: Path) -> None:
    config, _ = prepared(table, exponent=0.5)
    with pytest.raises(ConfigInvalid, match="an exponent other than 1 needs data with a declared range"):
        config.check()


def test_labels_change_no_weight(table: Path, places: Places) -> None:
    heading, *lines = table.read_text().split()
    first = published(table, places)
    states = [line.rpartition(",")[2] for line in reversed(lines)]
    permuted = [f"{line.rpartition(',')[0]},{state}" for line, state in zip(lines, states, strict=True)]
    table.write_text("\n".join([heading, *permuted]))
    second = published(table, places)
    one, other = Artefact(first.files["model.pt"]), Artefact(second.files["model.pt"])
    for method in first.manifest.methods:
        rows = first.golden.latents if method.takes_latents else first.golden.inputs
        assert all(np.array_equal(a, b) for a, b in zip(one.run(method, rows), other.run(method, rows), strict=True))
    assert first.files["calibration.npy"] == second.files["calibration.npy"]
    assert first.manifest.provenance.data_digest != second.manifest.provenance.data_digest


@pytest.mark.parametrize(
    ("choice", "changes"),
    [
        ({"latent": 3}, "architecture"),
        ({"hidden": (7,)}, "architecture"),
        ({"epochs": 9}, "fitting"),
        ({"trim": 0.1}, "fitting"),
        ({"beta": 4.0}, "objective"),
        ({"family": "denoising", "noise": 0.5}, "objective"),
        ({"score": "mahalanobis"}, "score"),
        ({"seed": 5}, "seed"),
    ],
)
def test_every_choice_changes_the_run(table: Path, choice: dict[str, object], changes: str) -> None:
    plain, _ = prepared(table)
    chosen, _ = prepared(table, **choice)
    assert getattr(plain, changes) != getattr(chosen, changes)


def test_wrong_choices_are_told_at_once_before_anything_is_read(tmp_path: Path) -> None:
    choices = Choices(family="denoising", beta=1)
    files = Files(path=str(tmp_path / "nowhere"), image_size=(0, 5), drop=("colums",))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigInvalid) as caught:
        configuration(files, choices, name="Two Words", folder=tmp_path)
    for fault in ("beta is for the family variational", "between 1 and 4096", "colums", "'Two Words'"):
        assert fault in str(caught.value)
    with pytest.raises(ConfigInvalid, match="'gan'; there are linear, vanilla"):
        configuration(files, Choices(family="gan"), name="own", folder=tmp_path)


@pytest.mark.parametrize("count", [50, 51, 200, 5_000, 10_000, 60_000, 10_000_000])
@pytest.mark.parametrize("size", [1, 784, 12_288])
def test_shares_leave_most_rows_to_train_on(count: int, size: int) -> None:
    sizes = shares(count, size=size, source="x")
    assert sizes.test is not None
    assert min(sizes.validation, sizes.calibration, sizes.test) >= 1
    assert sizes.validation + sizes.calibration + sizes.test <= 0.46 * count
    assert max(sizes.validation, sizes.calibration, sizes.test) <= 10_000
    assert sizes.calibration >= min(2_000, count * 30 // 100)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataUnavailable, match=r"pumps has 49 rows; .* take 50 or more"):
        shares(49, size=3, source="pumps")


def test_rows_too_wide_for_a_bundle_are_refused_before_training(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((60, 100_001), np.float16))
    with pytest.raises(DataUnavailable, match="100,001 values"):
        prepared(tmp_path / "wide.npy")
