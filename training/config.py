"""One run, complete: everything that decides what comes out, and nothing else."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import JsonValue

from bundle.manifest import ScoreKind, is_name
from bundle.operations import Family
from training.corruption import Range
from training.data import SOURCES, Source, SplitSizes
from training.errors import ConfigInvalid
from training.hardware import Hardware
from training.networks import Architecture
from training.objectives import Denoising, Linear, Objective, Variational
from training.sources.files import Files

__all__ = ["Config", "Fitting"]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How the objective is minimised: Adam (Kingma & Ba 2015) until `epochs`, or until the validation loss has not
    fallen for `patience` epochs. `cosine` lets the rate of learning fall to 0 along half a cosine over all epochs.
    `trim` is the share of each batch that is left out of the loss, those rows that are reconstructed worst.
    `threads` and `hardware` are part of it because sums divided in another way have other last bits."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    patience: int = 10
    trim: float = 0.0
    threads: int = 2
    hardware: Hardware = dataclasses.field(default_factory=Hardware)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        for field in ("epochs", "batch_size", "learning_rate", "patience", "threads"):
            if getattr(self, field) <= 0:
                found.append(f"{field} lies above 0")
        if not 0 <= self.trim < 1:
            found.append("trim, the share of a batch that is left out, lies in [0, 1)")
        if self.schedule not in ("constant", "cosine"):
            found.append(f"no schedule is called {self.schedule!r}; there are constant and cosine")
        if self.batch_size < self.hardware.processes:
            found.append("a batch needs at least one row for every device")
        return found + self.hardware.faults()


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run. Equal configurations, data, machine and packages give bit-equal weights. `source` is one of SOURCES by its
    name, or the user's own files. Rows are trained on and judged as their values, mapped from the declared range onto
    [0, 1], to the power of `exponent`, unless that is 1."""

    recipe: str
    description: str
    source: str | Files
    splits: SplitSizes
    architecture: Architecture
    objective: Objective
    fitting: Fitting
    exponent: float = 1.0
    score: ScoreKind = "reconstruction_error"
    seed: int = 0

    @property
    def family(self) -> Family:
        """The kind of autoencoder that comes out."""
        return self.objective.family

    @property
    def variational(self) -> bool:
        """True when the network encodes distributions."""
        return self.family is Family.VARIATIONAL

    @property
    def reader(self) -> Source | None:
        """What gives the data; None when the source is not known."""
        return SOURCES.get(self.source) if isinstance(self.source, str) else self.source

    def check(self) -> None:
        """Nothing contradicts itself. Raises ConfigInvalid with every fault at once."""
        faults = [*self.architecture.faults(), *self.objective.faults(), *self.fitting.faults()]
        faults += self.objective.faults_with(self.architecture)
        if self.architecture.learnt_spread and not self.variational:
            faults.append("only a variational network has a spread to learn")
        if not is_name(self.recipe):
            faults.append(f"{self.recipe!r} cannot name a bundle")
        if isinstance(self.source, Files):
            faults += self.source.faults()
        if self.reader is None:
            faults.append(f"no data source is called {self.source!r}; there are {', '.join(SOURCES)}")
        if (
            min(self.splits.validation, self.splits.calibration, 1 if self.splits.test is None else self.splits.test)
            < 1
        ):
            faults.append("every split needs at least one row")
        if self.score not in get_args(ScoreKind):
            faults.append(f"no score is called {self.score!r}; there are {', '.join(get_args(ScoreKind))}")
        if self.score == "negative_elbo" and not self.variational:
            faults.append("a negative ELBO is the score of a variational bundle only")
        if self.score in ("rapp_sap", "rapp_nap") and not self.architecture.hidden:
            faults.append(f"{self.score} compares hidden layers, and this network has none")
        if not 0 <= self.seed < 2**63:
            faults.append("the seed lies in [0, 2^63)")
        if not 0 < self.exponent <= 10:
            faults.append("the exponent lies in (0, 10]")
        if self.reader is not None:
            faults += self._faults_with(self.reader.range)
        if faults:
            raise ConfigInvalid(f"the configuration of {self.recipe} cannot be run: {'; '.join(faults)}")

    def _faults_with(self, range: Range) -> list[str]:
        """What does not go with data of the declared `range`."""
        faults = []
        if self.exponent != 1:
            if range is None:
                faults.append("an exponent other than 1 needs data with a declared range")
            range = (0, 1)
        sigmoid = self.architecture.output == "sigmoid"
        if sigmoid and range is None:
            faults.append("a sigmoid output needs data with a declared range")
        if self.architecture.kind == "conv" and range is None:
            faults.append("a conv network needs pictures, which have a declared range")
        if isinstance(self.objective, Denoising) and self.objective.corruption.needs_range and range is None:
            faults.append("salt and pepper needs data with a declared range")
        if not sigmoid or range != (0, 1):
            match self.objective:
                case Variational(likelihood="bernoulli"):
                    faults.append("a Bernoulli likelihood needs data in [0, 1] and a sigmoid output")
                case Variational() | Linear():
                    pass
                case deterministic if deterministic.error == "cross_entropy":
                    faults.append("a cross-entropy needs data in [0, 1] and a sigmoid output")
        return faults

    def as_json(self) -> dict[str, JsonValue]:
        """Every value, nested as here, with the family of the objective beside its values."""
        values: dict[str, JsonValue] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {"family": self.family.value, **values}

    def digest(self, data_digest: str) -> str:
        """SHA-256 (hexadecimal) of this configuration together with the data that it runs on."""
        return hashlib.sha256(json.dumps([self.as_json(), data_digest], sort_keys=True).encode()).hexdigest()
