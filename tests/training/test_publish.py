"""From a configuration to a bundle that reads back, with the test split kept out of everything but the figures."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bundle.operations import Family, Method, Operation
from bundle.read import Bundle, read_bundle
from training import publish as module
from training.config import Config, Fitting
from training.corruption import Corruption
from training.data import SOURCES, DataSet, SplitSizes, split
from training.errors import ConfigInvalid, TrainingError
from training.evaluate import principal_components_error
from training.export import Artefact
from training.fit import CHECKPOINT_FILE, LOG_FILE, Epoch
from training.networks import Architecture
from training.objectives import Denoising, Objective, Vanilla, Variational
from training.publish import Places, publish

OBJECTIVES: dict[Family, Objective] = {
    Family.VANILLA: Vanilla(),
    Family.DENOISING: Denoising(corruption=Corruption(kind="salt_and_pepper", strength=0.2)),
    Family.VARIATIONAL: Variational(),
}


class Fixed:
    """A source that gives one data set, whatever folder it is asked to look in."""

    def __init__(self, data: DataSet) -> None:
        self._data = data
        self.range = data.range

    def __call__(self, _: Path) -> DataSet:
        return self._data


@pytest.fixture
def made_up(config: Config, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The tiny run on the made-up pictures."""
    monkeypatch.setitem(SOURCES, "made-up", Fixed(data))
    return replace(config, source="made-up", splits=SplitSizes(validation=20, calibration=30))


def published(config: Config, places: Places, *, name: str | None = None) -> Bundle:
    return read_bundle(publish(config, places, name=name, command="diabolo train tiny").path)


@pytest.mark.parametrize("family", OBJECTIVES)
def test_a_published_bundle_reads_back_whole(config: Config, places: Places, family: Family) -> None:
    bundle = published(replace(config, objective=OBJECTIVES[family]), places)
    manifest, artefact = bundle.manifest, Artefact(bundle.files["model.pt"])
    assert (manifest.name, manifest.version, manifest.family) == ("tiny", 1, family)
    assert (Operation.DENOISE in manifest.operations) == (family is Family.DENOISING)
    assert (Operation.SAMPLE in manifest.operations) == (family is Family.VARIATIONAL)
    assert (Method.ENCODE_DISTRIBUTION in manifest.methods) == (family is Family.VARIATIONAL)
    assert bundle.golden.replay(artefact.run) == 0
    assert set(bundle.files) == {
        "model.pt",
        "golden.npz",
        "calibration.npy",
        "preview.png",
        "CARD.md",
        "report.html",
        "report.json",
    }
    assert ("denoise_mse" in manifest.metrics) == (family is Family.DENOISING)
    assert ("negative_elbo" in manifest.metrics) == (family is Family.VARIATIONAL)
    assert manifest.calibration is not None
    assert manifest.calibration.size == 300
    assert f"# tiny, version 1\n\n{config.description}." in bundle.files["CARD.md"].decode()
    with Image.open(io.BytesIO(bundle.files["preview.png"])) as picture:
        assert picture.width > picture.height > 100


def test_the_name_can_be_chosen_and_versions_count_up(config: Config, places: Places) -> None:
    config = replace(config, fitting=Fitting(epochs=1))
    assert [published(config, places, name="other").manifest.version for _ in range(2)] == [1, 2]
    assert published(config, places).manifest.version == 1
    assert sorted(path.name for path in places.models.iterdir()) == ["other", "tiny"]


def test_a_name_that_cannot_be_is_refused_before_anything_is_trained(config: Config, places: Places) -> None:
    with pytest.raises(ConfigInvalid, match=r"'\.\./x' cannot name a bundle"):
        publish(config, places, name="../x", command="")
    assert not places.runs.exists()


def test_the_manifest_says_where_the_bundle_came_from(config: Config, places: Places) -> None:
    manifest = published(config, places).manifest
    origin = manifest.provenance
    assert manifest.hyper_parameters == config.as_json()
    assert (origin.command, origin.recipe, origin.seed) == ("diabolo train tiny", "tiny", 0)
    assert origin.data_digest == SOURCES["digits"](Path()).digest
    assert origin.splits == {"train": 1000, "validation": 97, "calibration": 300, "test": 400}
    assert origin.packages["torch"] == torch.__version__.partition("+")[0]


def test_the_statistics_are_those_of_the_training_split(made_up: Config, places: Places, data: DataSet) -> None:
    statistics = published(made_up, places).manifest.statistics
    train = data.features[split(data, made_up.splits, seed=0).train].numpy()
    np.testing.assert_allclose(statistics.mean, train.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.standard_deviation, train.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.minimum, train.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.maximum, train.max(axis=0), rtol=1e-6)


def test_test_rows_decide_nothing_but_the_figures(
    made_up: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published(made_up, places)
    spoilt = data.features[:].clone()
    spoilt[150:] = spoilt[150:].flip(1).clamp(0.4, 0.6)
    monkeypatch.setitem(SOURCES, "made-up", Fixed(replace(data, features=spoilt)))
    second = published(made_up, places)

    one, other = Artefact(first.files["model.pt"]), Artefact(second.files["model.pt"])
    for method in first.manifest.methods:
        rows = first.golden.latents if method.takes_latents else first.golden.inputs
        assert all(np.array_equal(a, b) for a, b in zip(one.run(method, rows), other.run(method, rows), strict=True))
    assert first.files["calibration.npy"] == second.files["calibration.npy"]
    assert first.manifest.score == second.manifest.score
    assert first.manifest.statistics == second.manifest.statistics
    assert first.manifest.metrics != second.manifest.metrics


def test_probe_rows_are_the_first_test_rows(made_up: Config, places: Places, data: DataSet) -> None:
    assert np.array_equal(published(made_up, places).golden.inputs, data.features[150:166].numpy())


def test_calibration_is_what_the_program_scores_on_the_calibration_split(
    made_up: Config, places: Places, data: DataSet
) -> None:
    bundle = published(made_up, places)
    held_out = data.features[split(data, made_up.splits, seed=0).calibration].numpy()
    artefact = Artefact(bundle.files["model.pt"])
    (scores,) = artefact.run(Method.ANOMALY_SCORE, held_out)
    (maps,) = artefact.run(Method.ANOMALY_MAP, held_out)
    assert bundle.calibration is not None
    assert np.array_equal(bundle.calibration.scores, np.sort(scores))
    assert bundle.manifest.score.map_ceiling is not None
    assert (maps > bundle.manifest.score.map_ceiling).mean() == pytest.approx(0.0005, abs=1 / maps.size + 0.0005)


def test_a_score_without_a_map_is_published_without_one(made_up: Config, places: Places) -> None:
    manifest = published(replace(made_up, score="negative_elbo"), places).manifest
    assert (manifest.score.kind, manifest.score.additive, manifest.score.map_ceiling) == ("negative_elbo", False, None)
    assert Method.ANOMALY_MAP not in manifest.methods


def test_rows_judged_as_powers_come_and_go_as_they_are(made_up: Config, places: Places, data: DataSet) -> None:
    bundle = published(replace(made_up, exponent=1 / 3), places)
    rows = data.features[:20].numpy()
    artefact = Artefact(bundle.files["model.pt"])
    (outputs,), (scores,) = artefact.run(Method.RECONSTRUCT, rows), artefact.run(Method.ANOMALY_SCORE, rows)
    np.testing.assert_allclose(np.square(np.cbrt(rows) - np.cbrt(outputs)).mean(axis=1), scores, rtol=1e-4)
    np.testing.assert_allclose(
        bundle.golden.inputs, data.features[split(data, made_up.splits, seed=0).test][:16], atol=1e-6
    )
    assert bundle.manifest.input.range == data.range
    assert "Errors are in squared units of values to the power of 0.333" in bundle.files["CARD.md"].decode()


def test_rows_that_are_no_pictures_have_no_preview(
    made_up: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = 100 * data.features[:] - 30
    monkeypatch.setitem(SOURCES, "made-up", Fixed(replace(data, features=features, image=None, range=None)))
    linear = Architecture(hidden=(8,), latent=3, output="linear")
    bundle = published(replace(made_up, architecture=linear, objective=Vanilla()), places)
    assert "preview.png" not in bundle.files
    assert (bundle.manifest.input.range, bundle.manifest.input.image) == (None, None)
    assert "noise_rate_at_0.01" not in bundle.manifest.metrics


def stop_at(number: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return on_epoch


def test_an_interrupted_run_leaves_no_bundle_and_goes_on(config: Config, places: Places) -> None:
    with pytest.raises(KeyboardInterrupt):
        publish(config, places, command="", on_epoch=stop_at(2))
    assert not places.models.exists()
    seen: list[Epoch] = []
    done = publish(config, places, command="", on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [3]
    assert [path.name for path in done.run.iterdir()] == [LOG_FILE]


def test_a_fresh_run_starts_over(config: Config, places: Places) -> None:
    with pytest.raises(KeyboardInterrupt):
        publish(config, places, command="", on_epoch=stop_at(2))
    seen: list[Epoch] = []
    publish(config, places, command="", fresh=True, on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [1, 2, 3]


def test_a_run_that_is_going_on_elsewhere_is_left_alone(config: Config, places: Places) -> None:
    refused: list[TrainingError] = []

    def start_again(_: Epoch) -> None:
        with pytest.raises(TrainingError, match="going on in another process") as caught:
            publish(config, places, command="", fresh=True)
        refused.append(caught.value)

    done = publish(config, places, command="", on_epoch=start_again)
    assert len(refused) == len(done.epochs) == 3
    assert [path.name for path in places.models.iterdir()] == [done.manifest.name]


def test_a_run_that_cannot_be_written_keeps_its_training(
    config: Config, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_bundle", full)
        with pytest.raises(OSError, match="No space left"):
            publish(config, places, command="")
    (run,) = places.runs.iterdir()
    assert (run / CHECKPOINT_FILE).exists()
    seen: list[Epoch] = []
    publish(config, places, command="", on_epoch=seen.append)
    assert seen == []


def test_the_reference_error_is_that_of_the_singular_values(rows: Tensor) -> None:
    singular = torch.linalg.svdvals(rows - rows.mean(dim=0))
    wanted = singular[3:].square().sum().item() / rows.numel()
    assert principal_components_error(rows, rows, components=3) == pytest.approx(wanted, rel=1e-3)
