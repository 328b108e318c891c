"""`diabolo diff` on real, small bundles: the tiny one's arithmetic as ONNX graphs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node
from typer.testing import CliRunner, Result

from bundle.calibration import Calibration
from bundle.golden import Golden
from bundle.manifest import CALIBRATION_FILE, GOLDEN_FILE, CalibrationSummary, ImageSpec, InputSpec, Score, onnx_file
from bundle.operations import Family, Method, Operation
from cli.main import app
from tests.bundle_factory import SIZE, make_files, make_golden, publish
from tests.cli.test_comparison import SCORES, A, B
from tests.service.graphs import ENCODE, ERROR, RECONSTRUCT, graph_of, onnx_bundle, onnx_files, serialised
from tests.service.repositories import publish_wide

FEATURES = ("a", "b", "c", "d")


def publish_with(root: Path, calibration: Calibration | None = A, **changes: Any) -> Path:
    """The tiny bundle, whose score of a row [a, 0, a + c, 0] is the mean squared error of [a, 0, a, 0], c^2 / 4."""
    files = make_files(Family.VARIATIONAL) | onnx_files()
    summary = None
    if calibration is None:
        del files[CALIBRATION_FILE]
    else:
        files[CALIBRATION_FILE] = calibration.to_bytes()
        summary = CalibrationSummary(size=calibration.size, minimum=0, median=0, maximum=1)
    artefacts = {"torchscript": ("model.pt",), "onnx": tuple(sorted(onnx_files()))}
    fixed = {"family": Family.VARIATIONAL, "calibration": summary, "artefacts": artefacts}
    return publish(root, files=files, **fixed | changes)


def publish_scoring_alone(root: Path) -> None:
    """tiny/3 scores and does nothing else."""
    golden, graphs = make_golden(Family.VARIATIONAL), onnx_files()
    methods = (Method.ANOMALY_SCORE, Method.ANOMALY_MAP, Method.ENCODE_DISTRIBUTION)
    probe = Golden(golden.inputs, golden.latents, {method: golden.expected[method] for method in methods})
    kept = {name: graphs[name] for name in ("weights.bin", *map(onnx_file, methods))}
    publish(
        root,
        version=3,
        family=Family.VARIATIONAL,
        files=make_files(Family.VARIATIONAL) | kept | {GOLDEN_FILE: probe.to_bytes()},
        operations=(Operation.ANOMALY_SCORE,),
        artefacts={"torchscript": ("model.pt",), "onnx": tuple(sorted(kept))},
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """tiny/1 is calibrated by A, tiny/2 by B, whose calibration scores are twice A's."""
    publish_with(tmp_path, A)
    publish_with(tmp_path, B, version=2)
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows whose scores are SCORES."""
    rows = np.zeros((len(SCORES), SIZE), np.float32)
    rows[:, 0] = 0.1
    rows[:, 2] = 0.1 + 2 * np.sqrt(SCORES)
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path / "rows.npy"


def diff(models: Path, a: str, b: str, data: Path, *options: str) -> Result:
    arguments = ["diff", a, b, "--data", str(data), "--models-dir", str(models), "--runtime", "onnx", *options]
    return CliRunner().invoke(app, arguments)


def test_two_versions_are_compared_number_by_number(models: Path, data: Path) -> None:
    ended = diff(models, "tiny/1", "tiny", data, "--alpha", "0.5", "--json")
    assert ended.exit_code == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["a"]["version"], found["b"]["version"], found["rows"]) == (1, 2, 5)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["p_value_distance"] == pytest.approx(0.4)
    assert found["p_value_difference"] == pytest.approx(0.15)
    assert found["reconstruction_error_a"] == pytest.approx(0.093)
    default, half = found["verdicts"]
    assert default["alphas"] == {"a": 0.05, "b": 0.05}  # the finest of 19 scores
    assert (default["flagged_a"], default["flagged_b"]) == (1, 0)
    assert (default["only_a"], default["only_b"], default["flips"]) == ([4], [], 0.2)
    assert default["threshold_shift"] == pytest.approx(0.185)
    assert default["threshold_a_in_b"] == pytest.approx(0.55)
    assert half["alphas"] == {"a": 0.5, "b": 0.5}
    assert (half["only_a"], half["only_b"]) == ([3], [])


def test_the_same_is_told_to_a_reader(models: Path, data: Path) -> None:
    ended = diff(models, "tiny/1", "tiny/2", data)
    lines = dict(line.strip().split("  ", 1) for line in ended.stdout.splitlines() if "   " in line)
    assert {what: figures.strip() for what, figures in lines.items()} == {
        "rank correlation of scores": "1",
        "p-values: largest gap of shares": "0.4000",
        "p-values: median difference": "0.1500",
        "mean squared error": "A 0.093, B 0.093",
        "flagged": "A 1 (20.00%), B 0 (0.00%)",
        "verdicts that flip": "1 (20.00%)",
        "flagged by A alone": "1: rows 4",
        "flagged by B alone": "0",
        "threshold": "A 0.185, B 0.37",
        "shift of the threshold": "+0.185; A's is B's at alpha 0.55",
        "B flags as many as A at alpha": "0.5",
    }


def test_bundles_are_found_by_name_version_and_folder(
    models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    for a in ("tiny", "tiny/2", str(models / "tiny" / "2"), f"{models.name}/tiny/2"):
        found = json.loads(diff(models, a, "tiny/1", data, "--json").stdout)
        assert (found["a"]["version"], found["b"]["version"]) == (2, 1)


def test_scores_of_different_kinds_have_verdicts_but_no_shift(models: Path, data: Path) -> None:
    publish_with(models, B, version=3, score=Score(kind="weighted_error", additive=True, map_ceiling=1))
    ended = diff(models, "tiny/1", "tiny/3", data)
    assert ended.exit_code == 0, ended.stderr
    assert "of different kinds, not comparable" in ended.stdout
    assert "flagged by A alone                1: rows 4" in ended.stdout


def test_each_bundle_has_the_default_alpha_that_it_is_served_with(models: Path, data: Path) -> None:
    publish_with(models, Calibration.fit(np.linspace(0, 0.1, 499, dtype=np.float32)), version=3)
    (default,) = json.loads(diff(models, "tiny/1", "tiny/3", data, "--json").stdout)["verdicts"]
    assert default["alphas"] == {"a": 0.05, "b": 0.01}


@pytest.mark.parametrize(("limit", "code"), [("0.19", 3), ("0.2", 0), ("1", 0)])
def test_too_many_flips_are_an_exit_code_of_their_own(models: Path, data: Path, limit: str, code: int) -> None:
    ended = diff(models, "tiny/1", "tiny/2", data, "--fail-above-flips", limit)
    assert ended.exit_code == code
    assert "verdicts that flip" in ended.stdout
    assert ("more than 0.19 of the verdicts flip" in ended.stderr) == (code == 3)


def test_rows_beyond_the_declared_range_draw_a_warning(models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.full((2, SIZE), 255.0))
    ended = diff(models, "tiny/1", "tiny/2", tmp_path / "pixels.npy")
    assert ended.exit_code == 0
    assert "from 255 to 255, while the bundles were made for 0 to 1" in ended.stderr


def damage(folder: Path) -> None:
    path = folder / "encode.onnx"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"calibration": None}, "tiny/3 is not calibrated: it has no threshold"),
        (
            {"input": InputSpec(size=4)},
            "tiny/1 takes pictures of 2 x 2, tiny/3 no pictures: no rows are right for both",
        ),
        (
            {"input": InputSpec(size=4, range=(-1, 1), image=ImageSpec(height=2, width=2, channels=1))},
            r"tiny/1 takes values in \[0.0, 1.0\], tiny/3 values in \[-1.0, 1.0\]",
        ),
    ],
)
def test_bundles_that_cannot_be_compared_are_refused_in_words(
    models: Path, data: Path, change: dict[str, Any], reason: str
) -> None:
    changes: dict[str, Any] = {"calibration": A, "version": 3} | change
    publish_with(models, **changes)
    assert_refused(diff(models, "tiny/1", "tiny/3", data), reason)


def test_features_in_another_order_are_refused_by_name(models: Path, data: Path) -> None:
    for version, names in ((3, FEATURES), (4, ("a", "c", "b", "d"))):
        publish_with(models, version=version, input=InputSpec(size=4, feature_names=names))
    assert_refused(diff(models, "tiny/3", "tiny/4", data), "takes 'b' as feature 1, tiny/4 'c' as feature 1")


def test_the_features_of_either_name_the_columns(models: Path, tmp_path: Path) -> None:
    publish_with(models, version=3, input=InputSpec(size=4))
    publish_with(models, version=4, input=InputSpec(size=4, feature_names=FEATURES))
    table = tmp_path / "rows.csv"
    table.write_text("d,c,b,a\n" + "".join(f"0,{2 * score**0.5},0,0\n" for score in SCORES))
    found = json.loads(diff(models, "tiny/3", "tiny/4", table, "--json").stdout)
    assert found["reconstruction_error_a"] == pytest.approx(0.093)


def test_a_bundle_without_scores_is_refused(models: Path, data: Path) -> None:
    publish_wide(models)
    assert_refused(diff(models, "tiny", "wide", data), "wide/1 gives no anomaly scores")


def test_a_bundle_that_does_not_reconstruct_has_no_error(models: Path, data: Path) -> None:
    publish_scoring_alone(models)
    ended = diff(models, "tiny/1", "tiny/3", data)
    assert "A 0.093, B -" in ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("a", "options", "reason"),
    [
        ("tiny/7", (), "has no version 7; there is 1, 2"),
        ("unknown", (), "there is no bundle unknown in .*, and no folder of that path"),
        ("..", (), "is not sound: manifest-missing"),
        ("tiny/1", ("--alpha", "0.01"), r"the 19 calibration scores of tiny/1, alpha must lie in \[1/20, 1\); 0.01"),
        ("tiny/1", ("--alpha", "nan"), "alpha must lie in"),
        ("tiny/1", ("--device", "cuda:97", "--runtime", "torchscript"), "cuda:97|cannot be opened"),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_named(
    models: Path, data: Path, a: str, options: tuple[str, ...], reason: str
) -> None:
    assert_refused(diff(models, a, "tiny/2", data, *options), reason)


def test_a_damaged_bundle_is_refused_before_it_is_opened(models: Path, data: Path) -> None:
    damage(models / "tiny" / "2")
    assert_refused(diff(models, "tiny/1", "tiny/2", data), "tiny/2 is not sound: size-mismatch: encode.onnx is shorter")


def test_a_program_that_does_not_reproduce_its_probe_is_refused(models: Path, data: Path, tmp_path: Path) -> None:
    mean = make_node("ReduceMean", ["error", "axis"], ["anomaly_score"], keepdims=0)
    graph = serialised(graph_of(Method.ANOMALY_SCORE, nodes=[ENCODE, RECONSTRUCT, ERROR, mean]))
    onnx_bundle(tmp_path / "other", anomaly_score=graph)
    ended = diff(models, str(tmp_path / "other" / "tiny" / "1"), "tiny/2", data)
    assert_refused(ended, "tiny/1 is not sound: golden-mismatch: ")


@pytest.mark.parametrize("a", ["tiny/1", "tiny/3"])
def test_a_score_that_overflows_is_told_with_its_row(models: Path, tmp_path: Path, a: str) -> None:
    publish_scoring_alone(models)
    rows = np.zeros((300, SIZE), np.float32)
    rows[290, 2] = 3e38
    np.save(tmp_path / "huge.npy", rows)
    ended = diff(models, a, "tiny/2", tmp_path / "huge.npy")
    assert_refused(ended, rf"what {a} makes of row 290 \(counted from 0\) is not finite")


def assert_refused(ended: Result, reason: str) -> None:
    """One sentence on stderr, nothing else."""
    assert ended.exit_code == 1, ended.stdout
    assert ended.stdout == ""
    *warnings, refusal = ended.stderr.splitlines()
    assert all("while the bundles were made for" in warning for warning in warnings)
    assert re.search(f"^diabolo diff: .*({reason})", refusal), refusal
