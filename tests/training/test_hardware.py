"""What a run computes on: devices, precision, and several processes that share each batch."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.two_processes import losses
from training.config import Fitting
from training.corruption import Corruption
from training.fit import CHECKPOINT_FILE, LOG_FILE, Epoch, fit
from training.hardware import Hardware
from training.networks import Architecture, Autoencoder, build
from training.objectives import Denoising, Objective, Vanilla, Variational

ROOT = Path(__file__).parents[2]
OBJECTIVES: list[Objective] = [
    Vanilla(),
    Denoising(corruption=Corruption(kind="gaussian", strength=0.2)),
    Variational(),
]
SETTINGS = Fitting(epochs=5, batch_size=32, learning_rate=0.01, threads=1)
# No emulation stands in for one: the same tests run on the CPU above, these where there is hardware.
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use on this machine")


def trained(objective: Objective, rows: Tensor, folder: Path, hardware: Hardware) -> tuple[Autoencoder, list[Epoch]]:
    variational = isinstance(objective, Variational)
    network = build(12, Architecture(hidden=(32,), latent=4), variational=variational, range=(0.0, 1.0), seed=0)
    settings = replace(SETTINGS, hardware=hardware)
    epochs = fit(network, objective, settings=settings, train=rows[:150], validation=rows[150:], seed=0, folder=folder)
    return network, epochs


def validation_losses(epochs: list[Epoch]) -> list[float]:
    return [epoch.validation_loss for epoch in epochs]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.family)
def test_mixed_precision_on_the_cpu_comes_close_and_leaves_float32(
    objective: Objective, rows: Tensor, tmp_path: Path
) -> None:
    _, exact = trained(objective, rows, tmp_path / "exact", Hardware())
    network, mixed = trained(objective, rows, tmp_path / "mixed", Hardware(precision="bf16-mixed"))
    assert validation_losses(mixed) != validation_losses(exact)
    assert validation_losses(mixed) == pytest.approx(validation_losses(exact), rel=0.01)
    assert {weight.dtype for weight in network.state_dict().values()} == {torch.float32}


@needs_gpu
@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_a_gpu_comes_close_and_gives_the_network_back_to_the_cpu(rows: Tensor, tmp_path: Path, precision: str) -> None:
    _, exact = trained(Vanilla(), rows, tmp_path / "cpu", Hardware())
    hardware = Hardware(device="cuda", precision=precision)  # type: ignore[arg-type]  # a parameter is any string
    network, epochs = trained(Vanilla(), rows, tmp_path / "gpu", hardware)
    assert validation_losses(epochs) == pytest.approx(validation_losses(exact), rel=1e-3 if precision == "32" else 0.01)
    assert {weight.device.type for weight in network.state_dict().values()} == {"cpu"}


@needs_gpu
@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=lambda objective: objective.family)
def test_draws_on_a_gpu_lead_to_a_similar_loss(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    _, exact = trained(objective, rows, tmp_path / "cpu", Hardware())
    _, epochs = trained(objective, rows, tmp_path / "gpu", Hardware(device="cuda"))
    assert epochs[-1].validation_loss == pytest.approx(exact[-1].validation_loss, rel=0.1)


def test_two_processes_reach_the_loss_of_one_and_only_the_first_goes_on(tmp_path: Path) -> None:
    """Equal batches, divided: only the order in which float32 numbers are added differs."""
    shared = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests/training/two_processes.py"), "2", str(tmp_path / "shared")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert shared.returncode == 0, shared.stderr
    assert "MEMBER: 2/2" in shared.stderr
    said = [[float(value) for value in line.split()] for line in shared.stdout.splitlines()]
    alone = losses(1, tmp_path / "alone")
    assert len(said) == len(alone) == 3
    for together, single in zip(said, alone, strict=True):
        assert together == pytest.approx(single, rel=1e-6)
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {CHECKPOINT_FILE, LOG_FILE}


@pytest.mark.parametrize(
    ("hardware", "fault"),
    [
        (Hardware(device="tpu"), "no device is called 'tpu'"),  # type: ignore[arg-type]  # wrong on purpose
        (Hardware(precision="8"), "no precision is called '8'"),  # type: ignore[arg-type]  # wrong on purpose
        (Hardware(precision="16-mixed"), "the CPU has bf16-mixed"),
        (Hardware(devices=0), "1 or more"),
        (Hardware(nodes=0), "1 or more"),
    ],
)
def test_what_cannot_be_is_told(hardware: Hardware, fault: str) -> None:
    (told,) = hardware.faults()
    assert fault in told


@pytest.mark.parametrize("hardware", [Hardware(), Hardware(device="auto", devices=1), Hardware(precision="bf16-mixed")])
def test_what_every_machine_has_is_no_fault(hardware: Hardware) -> None:
    assert hardware.faults() == []


def test_cuda_where_there_is_none_is_refused_with_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (told,) = Hardware(device="cuda").faults()
    assert "choose the device cpu or auto" in told
    assert Hardware(device="auto").accelerator == "cpu"


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Hardware(device="auto").faults() == []
    assert Hardware(device="cuda", devices=4).faults() == ["there are 1 CUDA devices here, not 4"]


def test_a_batch_feeds_every_device() -> None:
    settings = Fitting(epochs=1, batch_size=7, hardware=Hardware(devices=4, nodes=2))
    assert settings.faults() == ["a batch needs at least one row for every device"]
    assert replace(settings, batch_size=8).faults() == []


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_one_process_of_a_shared_run_is_the_first(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    shared = Hardware(devices=2)
    assert shared.is_first
    monkeypatch.setenv(variable, "0")
    assert shared.is_first
    monkeypatch.setenv(variable, "1")
    assert not shared.is_first
    assert Hardware().is_first
