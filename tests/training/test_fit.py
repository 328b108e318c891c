"""The loop: the same twice, the same after an interruption, and the best weights at the end."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.config import Fitting
from training.corruption import Corruption
from training.errors import TrainingError
from training.fit import CHECKPOINT_FILE, LOG_FILE, Epoch, fit
from training.networks import Architecture, Autoencoder, build
from training.objectives import Denoising, Objective, Vanilla, Variational

OBJECTIVES: list[Objective] = [
    Vanilla(),
    Denoising(corruption=Corruption(kind="masking", strength=0.2)),
    Variational(),
]
SETTINGS = Fitting(epochs=5, batch_size=32, learning_rate=0.01, threads=1)

pytestmark = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.family)


def trained(
    objective: Objective,
    rows: Tensor,
    folder: Path,
    *,
    settings: Fitting = SETTINGS,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Autoencoder, list[Epoch]]:
    variational = isinstance(objective, Variational)
    net = build(12, Architecture(hidden=(8,), latent=2), variational=variational, range=(0.0, 1.0), seed=seed)
    epochs = fit(
        net,
        objective,
        settings=settings,
        train=rows[:150],
        validation=rows[150:],
        seed=seed,
        folder=folder,
        on_epoch=on_epoch,
    )
    return net, epochs


def same(first: Autoencoder, second: Autoencoder) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def interrupt_after(number: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return on_epoch


def test_the_same_seed_gives_the_same_bits(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, epochs = trained(objective, rows, tmp_path / "first")
    torch.manual_seed(2)
    again, epochs_again = trained(objective, rows, tmp_path / "again")
    other, _ = trained(objective, rows, tmp_path / "other", seed=1)
    assert same(first, again)
    assert epochs == epochs_again
    assert not same(first, other)


def test_fitting_leaves_the_global_generator_alone(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    trained(objective, rows, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stops", [(1,), (4,), (2, 3)])
def test_an_interrupted_run_ends_in_the_same_bits(
    objective: Objective, rows: Tensor, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    through, epochs = trained(objective, rows, tmp_path / "through")
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            trained(objective, rows, tmp_path / "stopped", on_epoch=interrupt_after(stop))
    seen: list[Epoch] = []
    resumed, epochs_resumed = trained(objective, rows, tmp_path / "stopped", on_epoch=seen.append)
    assert same(through, resumed)
    assert epochs == epochs_resumed
    assert [epoch.number for epoch in seen] == list(range(stops[-1] + 1, 6))
    assert (tmp_path / "stopped" / LOG_FILE).read_bytes() == (tmp_path / "through" / LOG_FILE).read_bytes()


def test_a_finished_run_is_not_run_again(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    first, epochs = trained(objective, rows, tmp_path)
    again, epochs_again = trained(objective, rows, tmp_path, on_epoch=interrupt_after(1))
    assert same(first, again)
    assert epochs == epochs_again


def test_a_checkpoint_half_written_is_passed_over(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    through, _ = trained(objective, rows, tmp_path / "through")
    with pytest.raises(KeyboardInterrupt):
        trained(objective, rows, tmp_path / "stopped", on_epoch=interrupt_after(2))
    (tmp_path / "stopped" / f"{CHECKPOINT_FILE}.new").write_bytes(b"half")
    resumed, _ = trained(objective, rows, tmp_path / "stopped")
    assert same(through, resumed)


@pytest.mark.parametrize("kept", [0, 7, 5000])
def test_a_damaged_checkpoint_says_how_to_start_over(
    objective: Objective, rows: Tensor, tmp_path: Path, kept: int
) -> None:
    trained(objective, rows, tmp_path)
    checkpoint = tmp_path / CHECKPOINT_FILE
    assert checkpoint.stat().st_size > 5000
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(TrainingError, match="start over with --fresh"):
        trained(objective, rows, tmp_path)


def test_it_stops_early_with_the_best_weights(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    # A rate far too high, so that the validation loss soon stops falling.
    settings = replace(SETTINGS, epochs=60, learning_rate=0.5, schedule="constant", patience=3)
    kept: dict[int, Autoencoder] = {}
    net, epochs = trained(objective, rows, tmp_path / "early", settings=settings)
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    assert len(epochs) == best.number + 3 < 60
    kept[best.number], _ = trained(
        objective, rows, tmp_path / "best", settings=replace(settings, epochs=best.number, patience=60)
    )
    assert same(net, kept[best.number])


def test_the_loss_falls_and_is_logged(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    _, epochs = trained(objective, rows, tmp_path)
    assert epochs[-1].validation_loss < epochs[0].validation_loss
    assert epochs[-1].training_loss < epochs[0].training_loss
    with (tmp_path / LOG_FILE).open() as file:
        logged = list(csv.DictReader(file))
    assert [float(line["validation_loss"]) for line in logged] == [epoch.validation_loss for epoch in epochs]


def test_the_schedule_makes_a_difference(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    cosine, _ = trained(objective, rows, tmp_path / "cosine")
    constant, _ = trained(objective, rows, tmp_path / "constant", settings=replace(SETTINGS, schedule="constant"))
    assert not same(cosine, constant)


def test_a_loss_that_is_no_number_ends_the_run_in_words(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    spoilt = rows.clone()
    spoilt[3, 4] = float("nan")
    with pytest.raises(TrainingError, match="no longer finite in epoch 1"):
        trained(objective, spoilt, tmp_path)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_holds_for_the_run_alone(
    objective: Objective, rows: Tensor, tmp_path: Path, threads: int
) -> None:
    before = torch.get_num_threads()
    during: list[int] = []

    def stop(_: Epoch) -> None:
        during.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(objective, rows, tmp_path, settings=replace(SETTINGS, threads=threads), on_epoch=stop)
    assert during == [threads]
    assert torch.get_num_threads() == before


def test_rows_that_stay_elsewhere_give_the_same_bits(objective: Objective, rows: Tensor, tmp_path: Path) -> None:
    """Of the rows to train on, their number and some of them by index are all that is asked for."""

    class Elsewhere:
        def __len__(self) -> int:
            return 150

        def __getitem__(self, index: Tensor) -> Tensor:
            assert index.dtype == torch.int64
            return rows[:150][index]

    net, epochs = trained(objective, rows, tmp_path / "here")
    other = build(
        12,
        Architecture(hidden=(8,), latent=2),
        variational=isinstance(objective, Variational),
        range=(0.0, 1.0),
        seed=0,
    )
    epochs_elsewhere = fit(
        other,
        objective,
        settings=SETTINGS,
        train=Elsewhere(),  # type: ignore[arg-type]  # as little as fit may use
        validation=rows[150:],
        seed=0,
        folder=tmp_path / "elsewhere",
    )
    assert same(net, other)
    assert epochs == epochs_elsewhere
