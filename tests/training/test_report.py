"""The report: one file that needs no other, whose figures are those of report.json, and which trusts no text."""

import html
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.operations import Operation
from bundle.read import Bundle, read_bundle
from training.config import Config, Fitting
from training.corruption import Corruption
from training.data import SOURCES, DataSet, SplitSizes
from training.networks import Architecture
from training.objectives import Denoising, Objective, Vanilla, Variational
from training.publish import Places, publish
from training.report.gallery import farthest
from training.report.page import figure

OBJECTIVES: list[Objective] = [Vanilla(), Denoising(corruption=Corruption(kind="masking", strength=0.3)), Variational()]
EVIL = "<script>alert('\"&')</script>"


@dataclass
class Fixed:
    """A source that gives one data set, whatever folder it is asked to look in."""

    data: DataSet

    @property
    def range(self) -> tuple[float, float] | None:
        return self.data.range

    def __call__(self, _: Path) -> DataSet:
        return self.data


def reported(config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle of a short run on `data`."""
    monkeypatch.setitem(SOURCES, "made-up", Fixed(data))
    short = replace(
        config, source="made-up", splits=SplitSizes(validation=20, calibration=30), fitting=Fitting(epochs=2, threads=1)
    )
    return read_bundle(publish(short, places, command=f"diabolo train {EVIL}").path)


def page(bundle: Bundle) -> str:
    return bundle.files["report.html"].decode()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.family.value)
def test_the_page_and_the_json_have_the_same_figures(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch, objective: Objective
) -> None:
    bundle = reported(replace(config, objective=objective), places, data, monkeypatch)
    found = json.loads(bundle.files["report.json"])
    assert found["figures"] == bundle.manifest.metrics
    shown = dict(re.findall(r'data-figure="([^"]+)">([^<]*)<', page(bundle)))
    flat = found["figures"] | {k: v for k, v in found["health"].items() if isinstance(v, int | float)}
    flat |= {"agreement": found["scores"]["agreement"], "alarms": found["scores"]["false_positives"]["alarms"]}
    if found["health"]["divergences"] is not None:
        flat["divergences"] = sum(found["health"]["divergences"])
    del flat["size"]
    assert shown == {name: figure(value) for name, value in flat.items()}
    assert [row[0] for row in found["losses"]] == [1, 2]
    assert len(found["scatter"]["points"]) == 50
    assert data.labels is not None
    assert found["scatter"]["labels"] == data.labels[150:].tolist()
    for shares in found["scores"]["shares"].values():
        assert sum(shares) == pytest.approx(1)
    names = [advice["name"] for advice in found["advice"]]
    assert "calibration too small" in names
    assert all(f"<h2>{name.capitalize()}</h2>" in page(bundle) for name in names)
    assert all(f"**{name.capitalize()}.**" in bundle.files["CARD.md"].decode() for name in names)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.family.value)
def test_the_page_needs_nothing_from_elsewhere(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch, objective: Objective
) -> None:
    text = page(reported(replace(config, objective=objective), places, data, monkeypatch))
    rest = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|<link|<script|<iframe|@import|url\(", rest)
    sources = re.findall(r'(?:src|href|data)="([^"]*)"', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert len(text) < 500_000
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_no_text_of_the_data_is_markup(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = replace(data, source=EVIL, label_names=(EVIL, *(str(i) for i in range(1, 10))))
    text = page(reported(replace(config, description=EVIL), places, named, monkeypatch))
    assert "<script" not in text
    assert text.count(html.escape(EVIL).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")) >= 4


def test_each_operation_and_part_of_the_family_is_shown(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        page(reported(replace(config, objective=objective), places, data, monkeypatch)) for objective in OBJECTIVES
    ]
    parts = [re.findall(r"<h2>(Reconstructions|Denoising|Interpolation|Samples)</h2>", text) for text in texts]
    assert parts == [
        ["Reconstructions", "Interpolation"],
        ["Denoising", "Interpolation"],
        ["Reconstructions", "Interpolation", "Samples"],
    ]
    assert f">{Operation.SAMPLE.value}</li>" in texts[2]


def test_labels_of_zero_and_one_give_areas_and_leave_false_alarms_to_normal_rows(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = data.features[:]
    labels = torch.zeros(200, dtype=torch.int64)
    labels[180:] = 1
    features[180:] = torch.rand(20, 12, generator=torch.Generator().manual_seed(0)).round()
    bundle = reported(
        replace(config, objective=Vanilla()), places, replace(data, features=features, labels=labels), monkeypatch
    )
    found = json.loads(bundle.files["report.json"])
    assert found["detection"]["normal_rows"] == found["scores"]["false_positives"]["rows"] == 30
    assert found["detection"]["auroc"] == bundle.manifest.metrics["auroc"] > 0.9
    assert set(found["scores"]["shares"]) == {"calibration", "test", "anomalies"}
    assert found["scatter"]["names"] == ["normal", "anomaly"]
    assert 'data-figure="detection.auroc"' in page(bundle)


def test_labels_of_many_kinds_give_no_areas(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = reported(config, places, data, monkeypatch)
    assert json.loads(bundle.files["report.json"])["detection"] is None
    assert "auroc" not in bundle.manifest.metrics


def test_rows_that_are_no_pictures_and_have_no_labels_are_reported_too(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(data, features=50 * data.features[:] - 7, labels=None, range=None, image=None)
    run = replace(config, objective=Vanilla(), architecture=Architecture(hidden=(8,), latent=1, output="linear"))
    bundle = reported(run, places, plain, monkeypatch)
    assert "<img" not in page(bundle)
    assert page(bundle).count("<svg") == 4 + 5
    assert json.loads(bundle.files["report.json"])["scatter"]["labels"] is None


def test_reporting_leaves_the_bundle_as_it_was_fitted(
    config: Config, places: Places, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reported(config, places, data, monkeypatch)
    other = replace(data, features=torch.cat([data.features[:150], data.features[150:].flip(1)]), labels=None)
    second = reported(config, places, other, monkeypatch)
    assert first.files["calibration.npy"] == second.files["calibration.npy"]
    assert first.manifest.statistics == second.manifest.statistics
    reports = [json.loads(bundle.files["report.json"]) for bundle in (first, second)]
    assert reports[0]["losses"] == reports[1]["losses"]
    assert reports[0]["health"] != reports[1]["health"]


def test_a_path_runs_between_the_codes_farthest_apart(rows: Tensor) -> None:
    codes = rows[:16, :3].numpy()
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=2)
    start, end = farthest(codes)
    assert start < end
    assert distances[start, end] == distances.max()
