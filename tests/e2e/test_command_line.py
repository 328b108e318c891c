"""The `diabolo` command as a person uses it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.calibration import Floats
from tests.e2e.conftest import DIABOLO, ROOT, SHIPPED, serving

NUMBER = r"(?<![\w-])[+-]?\d[\d,]*\.?\d*(?![\w-])"


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    return subprocess.run(
        [*DIABOLO, *arguments], cwd=ROOT, env=clean | variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_wrong_settings_are_all_named_at_once() -> None:
    ended = run("serve", DIABOLO_PORT="high", DIABOLO_DEVICE="tpu", DIABOLO_MAX_ROWS="0")
    assert ended.returncode == 1
    assert all(name in ended.stderr for name in ("DIABOLO_PORT", "DIABOLO_DEVICE", "DIABOLO_MAX_ROWS"))
    assert "Traceback" not in ended.stderr


def test_the_settings_in_force_are_shown() -> None:
    ended = run("serve", "--show-settings", "--port", "9001", DIABOLO_POLL_SECONDS="7")
    assert ended.returncode == 0
    assert "DIABOLO_PORT=9001 " in ended.stdout
    assert "DIABOLO_POLL_SECONDS=7.0 " in ended.stdout


def test_a_gpu_that_is_not_there_is_refused_in_words() -> None:
    ended = run("serve", DIABOLO_DEVICE="cuda:97")
    assert ended.returncode == 1
    assert "cuda:97" in ended.stderr
    assert "no such GPU" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_service_listens_where_it_is_told_and_nowhere_else(shipped: Path) -> None:
    with serving(shipped, host="127.0.0.2") as server:
        assert server.address.startswith("http://127.0.0.2:")
        assert httpx.get(f"{server.address}/livez").status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address.replace('127.0.0.2', '127.0.0.1')}/livez")


def test_a_missing_folder_of_bundles_is_named() -> None:
    ended = run("serve", DIABOLO_MODELS_DIR="/nowhere/at-all")
    assert ended.returncode == 1
    assert "/nowhere/at-all" in ended.stderr


def test_a_folder_of_state_that_cannot_be_made_is_named() -> None:
    ended = run("serve", DIABOLO_STATE_DIR="/proc/version")
    assert (ended.returncode, ended.stderr) == (1, "DIABOLO_STATE_DIR: /proc/version cannot be used: file exists\n")


def test_a_key_for_signatures_that_is_none_is_named(shipped: Path) -> None:
    ended = run("serve", DIABOLO_MODELS_DIR=str(shipped), DIABOLO_REQUIRE_SIGNATURE="/nowhere/key.pub")
    assert ended.returncode == 1
    assert ended.stderr.startswith("DIABOLO_REQUIRE_SIGNATURE: /nowhere/key.pub is no public key ")
    assert ended.stderr.endswith("no such file or directory\n")


def test_models_lists_the_shipped_bundles(shipped: Path) -> None:
    ended = run("models", DIABOLO_MODELS_DIR=str(shipped))
    assert ended.returncode == 0
    assert [line.split("/")[0] for line in ended.stdout.splitlines()] == SHIPPED


def test_verify_replays_every_shipped_bundle(shipped: Path) -> None:
    ended = run("verify", DIABOLO_MODELS_DIR=str(shipped))
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count(": sound, ") == len(SHIPPED)
    assert ended.stdout.count("replayed on") == len(SHIPPED)


@pytest.mark.parametrize("strict", [False, True])
def test_a_damaged_bundle_is_reported(shipped: Path, tmp_path: Path, strict: bool) -> None:
    damaged = tmp_path / "fashion-vae" / "1"
    shutil.copytree(shipped / "fashion-vae" / "1", damaged)
    program = damaged / "model.pt"
    program.write_bytes(program.read_bytes()[:-1])
    if strict:
        ended = run("serve", DIABOLO_MODELS_DIR=str(tmp_path), DIABOLO_STRICT="1", DIABOLO_PORT="0")
        assert "size-mismatch" in ended.stderr
    else:
        ended = run("verify", "--models-dir", str(tmp_path))
        assert "size-mismatch" in ended.stdout
    assert ended.returncode not in {0, None}


def test_two_shipped_bundles_differ_as_the_documentation_says(shipped: Path, clothes: Floats, tmp_path: Path) -> None:
    np.save(tmp_path / "clothes.npy", np.rint(255 * clothes).astype(np.uint8).reshape(-1, 28, 28))
    arguments = ["fashion-vae", "fashion-vanilla", "--data", str(tmp_path / "clothes.npy"), "--alpha", "0.05"]
    ended = run("diff", *arguments, "--models-dir", str(shipped))
    assert ended.returncode == 0, ended.stderr
    (documented,) = re.findall(r"```\n(A  .*?)```", (ROOT / "docs" / "comparing.md").read_text(), re.DOTALL)
    for line, shown in zip(ended.stdout.splitlines(), documented.splitlines(), strict=True):
        if ": rows " in line:  # another processor may see a row on the other side of a threshold
            line, shown = line.partition(":")[0], shown.partition(":")[0]
        assert re.sub(NUMBER, "N", line) == re.sub(NUMBER, "N", shown)
        figures = [[float(number.replace(",", "")) for number in re.findall(NUMBER, text)] for text in (line, shown)]
        assert figures[0] == pytest.approx(figures[1], rel=0.02)


def test_a_service_that_logs_json_says_where_it_is_as_json(tmp_path: Path) -> None:
    variables = {"DIABOLO_LOG_FORMAT": "json", "DIABOLO_PORT": "0", "DIABOLO_MODELS_DIR": str(tmp_path)}
    command = [*DIABOLO, "serve"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            assert {"timestamp", "level", "logger", "message"} <= line.keys()
            if "http://" in line["message"]:
                break
        else:
            pytest.fail("it ended before it said where it is")
    finally:
        process.terminate()
        process.communicate(timeout=30)
