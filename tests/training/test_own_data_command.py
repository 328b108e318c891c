"""`diabolo train --data`: from a path to a bundle, or one sentence and exit code 1."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bundle.read import read_bundle
from cli.main import app
from training.spool import Spool

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of this test alone, and no setting from outside."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("DIABOLO_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A hundred rows of three features and a column of text."""
    values = np.random.default_rng(0).normal(size=(100, 3))
    lines = [",".join([*map(repr, map(float, row)), "ok" if row[0] < 1 else "worn"]) for row in values]
    (tmp_path / "Pumps 2.csv").write_text("\n".join(["flow,pressure,heat,state", *lines]))
    return Path("Pumps 2.csv")


def train(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", *arguments])


def refusal(*arguments: str, code: int = 1) -> str:
    refused = train(*arguments)
    assert refused.exit_code == code, refused.output
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("diabolo train: ")
    assert not Path("models").exists()
    return refused.stderr


def test_a_path_a_family_a_size_and_a_name_are_enough(table: Path) -> None:
    options = ["--drop", "text", "--family", "variational", "--latent", "2", "--name", "pumps", "--epochs", "2"]
    done = train("--data", str(table), *options)
    assert done.exit_code == 0, done.output
    manifest = read_bundle(Path("models/pumps/1")).manifest
    assert manifest.input.feature_names == ("flow", "pressure", "heat")
    assert (manifest.family, manifest.latent.size) == ("variational", 2)
    assert manifest.provenance.command == (
        "diabolo train --data 'Pumps 2.csv' --family variational --latent 2 --drop text --name pumps --epochs 2"
    )
    assert "Published models/pumps/1" in done.stdout
    assert "/v1/models/pumps/anomaly-score" in done.stdout


def test_options_come_into_effect_and_into_the_command(table: Path) -> None:
    options = ["--label", "state", "--family", "vanilla", "--hidden", "6,5", "--trim", "0.1", "--score", "mahalanobis"]
    done = train("--data", str(table), *options, "--epochs", "1", "--seed", "4")
    assert done.exit_code == 0, done.output
    manifest = read_bundle(Path("models/pumps-2/1")).manifest
    parameters = manifest.hyper_parameters
    assert isinstance(parameters["architecture"], dict)
    assert isinstance(parameters["fitting"], dict)
    assert isinstance(parameters["source"], dict)
    assert parameters["architecture"]["hidden"] == [6, 5]
    assert parameters["fitting"]["trim"] == 0.1
    assert parameters["source"]["label"] == "state"
    assert (manifest.score.kind, manifest.provenance.seed) == ("mahalanobis", 4)
    assert all(word in manifest.provenance.command for word in options)


def test_no_hidden_layer_can_be_asked_for_and_pictures_can_be_resized(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for index in range(50):
        Image.new("RGB", (9, 9), (index, 2 * index, 0)).save(tmp_path / "photos" / f"{index}.png")
    options = ["--family", "vanilla", "--hidden", "0", "--image-size", "4x6", "--grey", "--epochs", "1"]
    done = train("--data", "photos", *options)
    assert done.exit_code == 0, done.output
    manifest = read_bundle(Path("models/photos/1")).manifest
    assert manifest.input.image is not None
    assert (manifest.input.image.height, manifest.input.image.width, manifest.input.image.channels) == (4, 6, 1)
    assert "--image-size 4x6 --grey" in manifest.provenance.command
    assert "reconstruct -o reconstruction.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-vae", "--data", "x.csv"], "give a recipe or --data"),
        (["digits-vae", "--latent", "3", "--grey"], "--latent, --colour goes with --data"),
        (["--data", "x.csv", "--image-size", "big"], "--image-size is height x width"),
        (["--data", "x.csv", "--hidden", "wide"], "--hidden is the widths of layers"),
    ],
)
def test_options_that_do_not_go_together_are_told(arguments: list[str], said: str) -> None:
    assert said in refusal(*arguments, code=2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "", "empty.csv is empty"),
        ("heading.csv", "a,b\n", "a heading and no rows"),
        ("few.csv", "a,b\n1,2\n3,4\n", "few.csv has 2 rows; training, calibrating and testing take 50 or more"),
        ("text.csv", "a,b\n1,x\n2,y\n", "no numbers in b (text)"),
        ("table.xlsx", "", "of no kind that is read"),
        ("array.npy", "", "array.npy cannot be read as an array"),
    ],
)
def test_data_that_cannot_be_trained_on_is_one_sentence(name: str, content: str, said: str) -> None:
    Path(name).write_text(content)
    assert said in refusal("--data", name)


def test_a_path_to_nothing_is_one_sentence() -> None:
    assert "there is no file and no folder at nowhere" in refusal("--data", "nowhere")


def test_an_unreadable_picture_is_named() -> None:
    Path("photos/a").mkdir(parents=True)
    Path("photos/a/broken.png").write_bytes(b"no picture")
    assert "a/broken.png in photos cannot be read" in refusal("--data", "photos")


def test_a_full_disk_while_reading_is_one_sentence(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "append", full)
    assert "No space left on device" in refusal("--data", str(table), "--drop", "text")


def test_a_full_disk_while_training_is_one_sentence(table: Path) -> None:
    command = ["--data", str(table), "--drop", "text", "--epochs", "2"]
    assert train(*command).exit_code == 0
    shutil.rmtree("models")
    (run,) = Path("runs").iterdir()
    (run / "checkpoint.ckpt.new").symlink_to("/dev/full")
    assert "No space left on device" in refusal(*command)


def test_ctrl_c_leaves_no_half_bundle_and_the_same_command_goes_on(table: Path, tmp_path: Path) -> None:
    command = ["--data", str(table), "--drop", "text", "--family", "vanilla", "--epochs", "150", "--name", "pumps"]
    started = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "train", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline().startswith("epoch 1:")
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130, told
    assert told.count("\n") == 1
    assert "the same command goes on" in told
    assert not (tmp_path / "models").exists()
    assert list((tmp_path / "runs").glob("*/checkpoint.ckpt"))

    resumed = train(*command)
    assert resumed.exit_code == 0, resumed.output
    assert "epoch 1:" not in resumed.stdout
    assert "epoch 150:" in resumed.stdout
    read_bundle(tmp_path / "models" / "pumps" / "1")
