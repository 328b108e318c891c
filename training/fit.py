"""The training loop, and the only file that knows Lightning.

Why Fabric and not Trainer: docs/decisions/0001-fabric-in-the-training-loop.md.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from training.config import Fitting
from training.errors import TrainingError
from training.networks import Autoencoder
from training.objectives import Objective
from training.rows import Features
from training.trimming import trimmed

__all__ = ["CHECKPOINT_FILE", "LOG_FILE", "Epoch", "fit"]

CHECKPOINT_FILE = "checkpoint.ckpt"
LOG_FILE = "losses.csv"

# Adding up in another order gives other bits, and only the CPU promises one order.
ACCELERATOR = "cpu"


class Epoch(NamedTuple):
    """One pass over the training split; the losses are in the objective's units."""

    number: int
    training_loss: float
    validation_loss: float


class _Loss(nn.Module):
    """The objective as a module's forward, which is what Fabric wraps."""

    def __init__(self, network: Autoencoder, objective: Objective, *, trim: float) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.trim = trim

    def forward(self, x: Tensor, generator: Generator, progress: float = 1.0) -> Tensor:
        kept = trimmed(self.network, x, share=self.trim) if self.trim else x
        return self.objective.loss(self.network, kept, generator, progress=progress)


def fit(
    network: Autoencoder,
    objective: Objective,
    *,
    settings: Fitting,
    train: Features,
    validation: Tensor,
    seed: int,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> list[Epoch]:
    """`network` has the weights of the epoch with the lowest validation loss; returns all epochs in order.

    `train` (n, d) and `validation` (m, d) are all the rows that are looked at. After every epoch the whole state lies
    in `folder`, and a later call with equal arguments goes on from there, to bit-equal weights. Raises TrainingError
    when the loss stops being finite or the checkpoint cannot be read, OSError when the disk refuses.
    """
    fabric = Fabric(accelerator=ACCELERATOR, devices=1)
    loss_of, optimizer = fabric.setup(
        _Loss(network, objective, trim=settings.trim), torch.optim.Adam(network.parameters())
    )
    generator = Generator().manual_seed(seed)
    steps = math.ceil(len(train) / settings.batch_size)
    epochs: list[Epoch] = []
    best = deepcopy(network.state_dict())

    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT_FILE).exists():
        state: dict[str, Any] = {"network": network, "optimizer": optimizer}
        try:
            rest = fabric.load(folder / CHECKPOINT_FILE, state, weights_only=True)
        except (RuntimeError, KeyError, ValueError, EOFError, OSError, UnpicklingError) as error:
            raise TrainingError(
                f"{folder / CHECKPOINT_FILE} is damaged or of another release; start over with --fresh"
            ) from error
        generator.set_state(rest["generator"])
        epochs = [Epoch(*row) for row in rest["epochs"]]
        best = rest["best"]

    with _threads(settings.threads):
        while len(epochs) < settings.epochs and _epochs_without_gain(epochs) < settings.patience:
            network.train()
            total = 0.0
            order = torch.randperm(len(train), generator=generator)
            for step, rows in enumerate(torch.split(order, settings.batch_size), start=len(epochs) * steps):
                progress = step / (steps * settings.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = _learning_rate(settings, progress)
                loss = loss_of(train[rows], generator, progress)
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                total += loss.item() * len(rows)
            network.eval()
            with torch.no_grad():
                # The same draws every time: epochs differ by their weights alone.
                validation_loss = loss_of(validation, Generator().manual_seed(seed)).item()
            epoch = Epoch(len(epochs) + 1, total / len(train), validation_loss)
            if not math.isfinite(epoch.training_loss + epoch.validation_loss):
                raise TrainingError(f"the loss is no longer finite in epoch {epoch.number}; lower the learning rate")
            epochs.append(epoch)
            if _epochs_without_gain(epochs) == 0:
                best = deepcopy(network.state_dict())
            state = {"network": network, "optimizer": optimizer, "generator": generator.get_state(), "best": best}
            with _replaced(folder / CHECKPOINT_FILE) as file:
                fabric.save(file, {**state, "epochs": [tuple(row) for row in epochs]})
            with _replaced(folder / LOG_FILE) as file:
                file.write_text(_as_csv(epochs))
            on_epoch(epoch)

    network.load_state_dict(best)
    network.eval()
    return epochs


def _epochs_without_gain(epochs: list[Epoch]) -> int:
    """How many epochs have passed since the lowest validation loss."""
    return len(epochs) - min(epochs, key=lambda epoch: epoch.validation_loss).number if epochs else 0


def _learning_rate(settings: Fitting, done: float) -> float:
    """The rate when the fraction `done` of all steps is behind."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _as_csv(epochs: list[Epoch]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([Epoch._fields, *epochs])
    return buffer.getvalue()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch computes with `count` threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """What is written to the yielded path stands at `path` afterwards; an interruption leaves what stood there."""
    fresh = path.with_name(f"{path.name}.new")
    yield fresh
    fresh.replace(path)
