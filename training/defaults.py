"""A complete configuration for data that nobody has written a recipe for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bundle.manifest import ImageSpec, ScoreKind, is_name
from training.config import Config, Fitting
from training.corruption import Corruption
from training.data import SplitSizes
from training.dataset import DataSet
from training.errors import ConfigInvalid, DataUnavailable
from training.networks import Architecture
from training.objectives import Contractive, Denoising, KSparse, Linear, Objective, SparsePenalty, Vanilla, Variational
from training.sources.files import Files

__all__ = ["FAMILIES", "Choices", "configuration", "configuration_of", "shares"]

LEAST_ROWS = 50
LARGEST_ROW = 100_000  # values; of more, the statistics alone would be more than a manifest can hold
WANTED_CALIBRATION = 2_000  # rows, with which p-values go down to 0.0005
WIDE_ROW = 512  # values; below it a second thread costs more than it computes
HELD_OUT_ROWS = 10_000  # of a split at most, and no more than take 64 MiB
HELD_OUT_BYTES = 64 * 2**20
PICTURE_SIZE, PICTURE_SPREAD = 784, 2.0
ROWS_SEEN = 2_000_000  # by the network in all epochs together, unless that is too few epochs or too many


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may be said about a run; what is None follows from the data and the family. `beta` is for variational,
    `noise`, a standard deviation, for denoising autoencoders, `exponent` for pictures."""

    family: str = "variational"
    latent: int = 8
    hidden: tuple[int, ...] | None = None
    epochs: int | None = None
    beta: float | None = None
    noise: float | None = None
    trim: float = 0.0
    exponent: float | None = None
    score: ScoreKind | None = None
    seed: int = 0

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.family not in FAMILIES:
            found.append(f"no family is called {self.family!r}; there are {', '.join(FAMILIES)}")
        if self.beta is not None and self.family != "variational":
            found.append(f"beta is for the family variational, not for {self.family}")
        if self.noise is not None and self.family != "denoising":
            found.append(f"noise is for the family denoising, not for {self.family}")
        if self.family == "linear" and self.hidden:
            found.append("a linear autoencoder has no hidden layer")
        return found


class _Plan(NamedTuple):
    """What the families start from, pictures, of `image`, have the range [0, 1] and a sigmoid output, others standard
    deviations for units and a linear one."""

    architecture: Architecture
    image: ImageSpec | None
    choices: Choices


class _Start(NamedTuple):
    """What a family makes of it; choices still win."""

    architecture: Architecture
    objective: Objective
    exponent: float = 1.0
    score: ScoreKind = "reconstruction_error"


def _linear(plan: _Plan) -> _Start:
    return _Start(replace(plan.architecture, hidden=(), output="linear"), Linear())


def _vanilla(plan: _Plan) -> _Start:
    return _Start(plan.architecture, Vanilla())


def _denoising(plan: _Plan) -> _Start:
    strength = 0.2 if plan.choices.noise is None else plan.choices.noise
    return _Start(plan.architecture, Denoising(corruption=Corruption(kind="gaussian", strength=strength)))


def _k_sparse(plan: _Plan) -> _Start:
    return _Start(replace(plan.architecture, top_k=max(1, plan.choices.latent // 8)), KSparse())


def _sparse(plan: _Plan) -> _Start:
    architecture = replace(plan.architecture, code_activation="sigmoid")
    weights = (*(0.0 for _ in architecture.hidden), 0.6)
    return _Start(architecture, SparsePenalty(penalty="kl", target=0.05, weights=weights))


def _contractive(plan: _Plan) -> _Start:
    # One tied layer unless more are asked for: its Jacobian has a closed form.
    hidden = plan.choices.hidden or ()
    architecture = replace(plan.architecture, hidden=hidden, code_activation="sigmoid", tied=True, layer_norm=False)
    return _Start(architecture, Contractive(weight=1e-4, jacobian="estimate" if hidden else "exact"))


def _variational(plan: _Plan) -> _Start:
    """Of pictures, what holds the row `one-class` of docs/quality.md: a rough likelihood, whose error per picture
    weighs the same for any number of pixels, and roots of grey values. Why tables keep beta at 1: decision 0005."""
    beta = 1.0 if plan.choices.beta is None else plan.choices.beta
    if plan.image is None:
        return _Start(replace(plan.architecture, learnt_spread=True), Variational(likelihood="gaussian", beta=beta))
    spread = PICTURE_SPREAD * (plan.image.size / PICTURE_SIZE) ** 0.5
    exponent = 1 / 3 if plan.image.channels == 1 else 1.0
    objective = Variational(likelihood="gaussian", spread=spread, beta=beta)
    return _Start(plan.architecture, objective, exponent=exponent, score="negative_elbo")


FAMILIES: dict[str, Callable[[_Plan], _Start]] = {
    "linear": _linear,
    "vanilla": _vanilla,
    "denoising": _denoising,
    "k-sparse": _k_sparse,
    "sparse": _sparse,
    "contractive": _contractive,
    "variational": _variational,
}


def configuration(files: Files, choices: Choices, *, name: str, folder: Path) -> tuple[Config, DataSet]:
    """The run that trains `name` on what is read from `files`, and what was read; `folder` holds what of it does not
    fit into memory.

    Raises ConfigInvalid with all that is wrong with the choices, before anything is read, DataUnavailable when the data
    cannot be trained on, and OSError when the disk refuses.
    """
    faults = [*choices.faults(), *files.faults()]
    if not is_name(name):
        faults.append(f"{name!r} cannot name a bundle; use small letters, digits, '.', '_' and '-', at most 64")
    if faults:
        raise ConfigInvalid("; ".join(faults))
    data = files(folder)
    return configuration_of(data, files, choices, name=name), data


def shares(count: int, *, size: int, source: str) -> SplitSizes:
    """The rows held out of `count` rows of `size` values: 5 % to validate, 15 % to calibrate, but 2,000 as far as 30 %
    are so many, 10 % to test; at most 10,000 of each, or fewer where these take more than 64 MiB, but 2,000.

    Raises DataUnavailable below 50 rows.
    """
    if count < LEAST_ROWS:
        raise DataUnavailable(f"{source} has {count} rows; training, calibrating and testing take {LEAST_ROWS} or more")
    most = max(WANTED_CALIBRATION, min(HELD_OUT_ROWS, HELD_OUT_BYTES // (4 * size)))
    calibration = max(count * 15 // 100, min(WANTED_CALIBRATION, count * 30 // 100))
    return SplitSizes(
        validation=min(count * 5 // 100, most), calibration=min(calibration, most), test=min(count // 10, most)
    )


def configuration_of(data: DataSet, files: Files, choices: Choices, *, name: str) -> Config:
    """The run that trains `name` on `data`, which `files` gave. Raises DataUnavailable where that cannot be."""
    if data.size > LARGEST_ROW:
        raise DataUnavailable(
            f"a row of {data.source} has {data.size:,} values, and {LARGEST_ROW:,} are the most that a bundle can take"
            + ("; choose a smaller --image-size" if data.image else "")
        )
    splits = shares(len(data.features), size=data.size, source=data.source)
    pictures = data.image is not None
    start = FAMILIES[choices.family](
        _Plan(
            Architecture(
                hidden=choices.hidden if choices.hidden is not None else _widths(data.size, pictures=pictures),
                latent=choices.latent,
                activation="silu",
                layer_norm=pictures,
                standardise=pictures,
                output="sigmoid" if pictures else "linear",
            ),
            data.image,
            choices,
        )
    )
    train = len(data.features) - splits.validation - splits.calibration - (splits.test or 0)
    return Config(
        recipe=name,
        description=f"{choices.family.capitalize()} autoencoder of {data.source}",
        source=replace(files, range=data.range),
        splits=splits,
        architecture=start.architecture,
        objective=start.objective,
        fitting=Fitting(
            epochs=choices.epochs or min(200, max(5, ROWS_SEEN // train)),
            batch_size=128 if train >= 2_000 else 32,
            learning_rate=2e-3 if pictures else 1e-3,
            patience=20,
            trim=choices.trim,
            threads=1 if data.size < WIDE_ROW else 2,
        ),
        exponent=start.exponent if choices.exponent is None else choices.exponent,
        score=choices.score or start.score,
        seed=choices.seed,
    )


def _widths(size: int, *, pictures: bool) -> tuple[int, ...]:
    """The widths of hidden layers for rows of `size` values: what serves most data, and no search for what is best."""
    if pictures:
        return (min(512, max(64, size // 2)),)
    width = min(256, max(32, 4 * size))
    return (width, width // 2)
