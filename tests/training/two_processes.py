"""Fits a small network whose batches are shared by as many CPU processes as the first argument says, and says what came
out. A program of its own, because Lightning starts the further processes by running the command line again."""

import sys
from pathlib import Path

import torch
from torch import Generator

from training.config import Fitting
from training.fit import Epoch, fit
from training.hardware import Hardware
from training.networks import Architecture, build
from training.objectives import Vanilla


def losses(processes: int, folder: Path) -> list[Epoch]:
    """151 rows in batches of 30: the last batch of an epoch has one row, so that one of two processes has none."""
    rows = torch.rand(151, 12, generator=Generator().manual_seed(1))
    network = build(12, Architecture(hidden=(8,), latent=2), variational=False, range=(0.0, 1.0), seed=0)
    settings = Fitting(epochs=3, batch_size=30, learning_rate=0.01, threads=1, hardware=Hardware(devices=processes))
    return fit(network, Vanilla(), settings=settings, train=rows, validation=rows[:50], seed=0, folder=folder)


if __name__ == "__main__":
    for epoch in losses(int(sys.argv[1]), Path(sys.argv[2])):
        print(*epoch)  # noqa: T201 (the answer)
