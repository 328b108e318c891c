"""`diabolo train`: what it says, where it leaves things, and how it fails."""

import os
import re
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner, Result

from bundle.read import read_bundle
from cli.main import app
from training import data, publish
from training.errors import DataUnavailable
from training.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of this test alone, and no setting from outside."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("DIABOLO_")]:
        monkeypatch.delenv(variable)


def train(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", *arguments])


def one_line(text: str) -> str:
    """The text, which must be one line and no traceback."""
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_a_recipe_becomes_a_bundle_and_the_next_steps_are_told() -> None:
    done = train("digits-vae", "--epochs", "2", "--seed", "7", "--name", "mine")
    assert done.exit_code == 0, done.output
    manifest = read_bundle(Path("models/mine/1")).manifest
    assert manifest.provenance.command == "diabolo train digits-vae --name mine --seed 7 --epochs 2"
    assert manifest.provenance.seed == 7
    assert "Published models/mine/1" in done.stdout
    assert re.search(r"reconstruct_mse +0\.\d", done.stdout)
    assert "make serve" in done.stdout
    assert "/v1/models/mine/examples/4" in done.stdout
    assert done.stdout.count("\nepoch ") + done.stdout.startswith("epoch ") == 2


def test_the_folder_of_bundles_can_be_set(tmp_path: Path) -> None:
    assert train("digits-vae", "--epochs", "1", "--models-dir", str(tmp_path / "there")).exit_code == 0
    read_bundle(tmp_path / "there" / "digits-vae" / "1")
    assert not Path("models").exists()


def test_the_folder_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIABOLO_MODELS_DIR", str(tmp_path / "set"))
    done = train("digits-vae", "--epochs", "1")
    command = read_bundle(tmp_path / "set" / "digits-vae" / "1").manifest.provenance.command
    assert done.exit_code == 0
    assert command == "diabolo train digits-vae --epochs 1"


@pytest.mark.parametrize("arguments", [[], ["--list"], ["digits-vae", "--list"]])
def test_the_recipes_are_listed(arguments: list[str]) -> None:
    listed = train(*arguments)
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(RECIPES)


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    refused = train("imagenet-vae")
    assert refused.exit_code == 2
    assert all(name in one_line(refused.stderr) for name in ("'imagenet-vae'", *RECIPES))


def test_data_that_is_not_to_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> NoReturn:
        raise DataUnavailable("MNIST is not on this machine")

    missing.range = (0.0, 1.0)  # type: ignore[attr-defined]  # what a source declares
    monkeypatch.setitem(data.SOURCES, "mnist", missing)
    refused = train("mnist-vae")
    assert refused.exit_code == 1
    assert "MNIST is not on this machine" in one_line(refused.stderr)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "write_bundle", full)
    refused = train("digits-vae", "--epochs", "1")
    assert refused.exit_code == 1
    assert "No space left on device" in one_line(refused.stderr)
    assert not Path("models").exists()


def test_a_name_that_cannot_be_is_one_sentence() -> None:
    refused = train("digits-vae", "--name", "Two Words")
    assert refused.exit_code == 1
    assert "'Two Words' cannot name a bundle" in one_line(refused.stderr)


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(publish, "evaluate", interrupted)
        stopped = train("digits-vae", "--epochs", "2")
    assert stopped.exit_code == 130
    assert "the same command goes on" in one_line(stopped.stderr)
    assert not Path("models").exists()
    resumed = train("digits-vae", "--epochs", "2")
    assert resumed.exit_code == 0
    assert "epoch 1:" not in resumed.stdout
    started_over = train("digits-vae", "--epochs", "2", "--fresh")
    assert "epoch 1:" in started_over.stdout
