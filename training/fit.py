"""The training loop, and the only file that knows Lightning.

Why Fabric and not Trainer: docs/decisions/0001-fabric-in-the-training-loop.md; why not torch.compile: 0003.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from torch import Generator, Tensor, nn

from training.config import Fitting
from training.errors import TrainingError
from training.hardware import Hardware
from training.networks import Autoencoder
from training.objectives import Objective
from training.rows import Features
from training.trimming import trimmed

__all__ = ["CHECKPOINT_FILE", "LOG_FILE", "Epoch", "fit"]

CHECKPOINT_FILE = "checkpoint.ckpt"
LOG_FILE = "losses.csv"


class Epoch(NamedTuple):
    """One pass over the training split; the losses are in the objective's units."""

    number: int
    training_loss: float
    validation_loss: float


class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...


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


class _Mixed(MixedPrecision):
    """Lightning's, but the rows stay float32: the output is compared with them, and a loss has no use for 8 bits."""

    def convert_input(self, data: Any) -> Any:
        return data


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
    """`network`, on the CPU, has the weights of the epoch with the lowest validation loss; returns all epochs in order.

    `train` (n, d) and `validation` (m, d) are all the rows that are looked at; of `train`, its length and the rows of
    given numbers. After every epoch the whole state lies in `folder`, and a later call with equal arguments goes on
    from there, to bit-equal weights on one CPU. Raises TrainingError when the loss stops being finite or the checkpoint
    cannot be read, OSError when the disk refuses.

    Where `settings.hardware` asks for several devices, Lightning runs this process's command line once more for each
    further one, unless torchrun or SLURM already has; what comes before this call thus happens in all of them. Each
    takes its share of every batch and gradients are averaged over the batch. Only the first process writes to `folder`,
    calls `on_epoch` and returns: the others end here. On further machines the same command is started by hand, with
    MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment.
    """
    saved = _saved(folder)
    precision = _precision(settings.hardware)
    fabric = _launched(settings.hardware, precision)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    loss_of, optimizer = fabric.setup(_Loss(network, objective, trim=settings.trim), adam)
    validation = fabric.to_device(validation)
    steps = math.ceil(len(train) / settings.batch_size)
    epochs: list[Epoch] = []
    best = deepcopy(network.state_dict())
    if (saved := fabric.broadcast(saved)) is not None:
        try:
            network.load_state_dict(saved["network"])
            adam.load_state_dict(saved["optimizer"])
            precision.load_state_dict(saved["precision"])
            epochs = [Epoch(*row) for row in saved["epochs"]]
            best = saved["best"]
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise _damaged(folder) from error

    with _threads(max(1, settings.threads // settings.hardware.devices)):
        while len(epochs) < settings.epochs and _epochs_without_gain(epochs) < settings.patience:
            network.train()
            # The order is the same in all processes, what is drawn for their rows is not.
            order = torch.randperm(len(train), generator=_generator(seed, len(epochs), 0))
            draws = _generator(seed, len(epochs), 1 + fabric.global_rank, device=fabric.device)
            total = torch.zeros((), dtype=torch.float64, device=fabric.device)
            for step, batch in enumerate(torch.split(order, settings.batch_size), start=len(epochs) * steps):
                progress = step / (steps * settings.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = _learning_rate(settings, progress)
                share = batch[fabric.global_rank :: fabric.world_size]
                # Shares of an odd batch differ by a row; a process that is left without any looks at one, for nothing.
                weight = len(share) * fabric.world_size / len(batch)
                x = fabric.to_device(train[share if weight else batch[:1]])
                loss = loss_of(x, draws, progress) * weight
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
                total.add_(loss.detach(), alpha=len(batch))  # not .item(), which would wait for a GPU in every step
            network.eval()
            with torch.no_grad():
                # The same draws every time: epochs differ by their weights alone.
                validation_loss = loss_of(validation, _generator(seed, device=fabric.device)).item()
            training_loss = float(torch.as_tensor(fabric.all_reduce(total, reduce_op="mean"))) / len(train)
            # All go by what the first has found, so that all stop at the same epoch.
            epoch = fabric.broadcast(Epoch(len(epochs) + 1, training_loss, validation_loss))
            if not math.isfinite(epoch.training_loss + epoch.validation_loss):
                raise TrainingError(f"the loss is no longer finite in epoch {epoch.number}; lower the learning rate")
            epochs.append(epoch)
            if _epochs_without_gain(epochs) == 0:
                best = deepcopy(network.state_dict())
            if fabric.is_global_zero:
                _save(folder, epochs, network=network, optimizer=adam, precision=precision, best=best)
                on_epoch(epoch)

    if not fabric.is_global_zero:
        raise SystemExit(0)
    network.load_state_dict(best)
    network.eval().cpu()
    return epochs


def _precision(hardware: Hardware) -> Precision:
    return Precision() if hardware.precision == "32" else _Mixed(hardware.precision, hardware.accelerator)


def _launched(hardware: Hardware, precision: Precision) -> Fabric:
    """Fabric for `hardware`, in this process and in those that it needs beside it."""
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        plugins=precision,
        strategy="ddp" if hardware.processes > 1 else "auto",
    )
    fabric.launch()
    return fabric


def _generator(*of: int, device: torch.device | str = "cpu") -> Generator:
    """A generator on `device` whose draws are those of these numbers alone, independent of what others give
    (numpy's SeedSequence). Seeded anew for each epoch, it needs no place in the checkpoint."""
    return Generator(device).manual_seed(int(np.random.SeedSequence(of).generate_state(1, np.uint64)[0]))


def _epochs_without_gain(epochs: list[Epoch]) -> int:
    """How many epochs have passed since the lowest validation loss."""
    return len(epochs) - min(epochs, key=lambda epoch: epoch.validation_loss).number if epochs else 0


def _learning_rate(settings: Fitting, done: float) -> float:
    """The rate when the fraction `done` of all steps is behind."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _saved(folder: Path) -> dict[str, Any] | None:
    """The state after the last whole epoch; None where there is none. Raises TrainingError where it is damaged."""
    if not (folder / CHECKPOINT_FILE).exists():
        return None
    try:
        state: dict[str, Any] = torch.load(folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
    except (RuntimeError, KeyError, ValueError, EOFError, OSError, UnpicklingError) as error:
        raise _damaged(folder) from error
    return state


def _damaged(folder: Path) -> TrainingError:
    return TrainingError(f"{folder / CHECKPOINT_FILE} is damaged or of another release; start over with --fresh")


def _save(folder: Path, epochs: list[Epoch], *, best: dict[str, Tensor], **parts: _Stateful) -> None:
    """The log and, from which a run can go on, the state of all `parts` lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {name: part.state_dict() for name, part in parts.items()}
    state = io.BytesIO()  # writing to a full disk itself, torch would not say that this is what is wrong
    torch.save({**states, "best": best, "epochs": [tuple(row) for row in epochs]}, state)
    with _replaced(folder / CHECKPOINT_FILE) as file:
        file.write_bytes(state.getbuffer())
    with _replaced(folder / LOG_FILE) as file:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([Epoch._fields, *epochs])
        file.write_text(buffer.getvalue())


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
