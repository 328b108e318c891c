"""Anomalies in a table, unsupervised: the breast cancer data as PyOD's benchmark has it, PyOD beside it."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.quality.row import Check, Outcome, Reference, Row
from benchmarks.quality.trained import trained
from training.config import Config
from training.defaults import FAMILIES, Choices, configuration
from training.scores import score_of
from training.sources.files import Files

SPLITS = 20
MALIGNANT = 21
VALIDATION = 20  # one row in so many of the training split
# Few rows, some of them anomalies: strong regularisation and trimming keep the network from learning those too.
OURS = Choices(family="variational", beta=10.0, trim=0.1, score="reconstruction_error")
PUBLISHED = {"AutoEncoder": 0.923, "VAE": 0.922, "PCA": 0.916, "KNN": 0.937, "IForest": 0.931}
Scores = npt.NDArray[np.float64]


class Split(NamedTuple):
    """Rows (n, 30) and (m, 30) in standard deviations of the first, and which (m,) of the second are malignant."""

    train: Tensor
    test: Tensor
    malignant: npt.NDArray[np.bool_]


def split(seed: int) -> Split:
    """All 357 benign rows and 21 malignant ones, drawn by `seed`, 60 % of them to train on: unsupervised, with
    anomalies among them."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer()
    benign = np.flatnonzero(data.target == 1)
    drawn = np.random.default_rng(seed).choice(np.flatnonzero(data.target == 0), MALIGNANT, replace=False)
    rows = np.concatenate([benign, drawn])
    train, test, _, marked = train_test_split(data.data[rows], data.target[rows] == 0, test_size=0.4, random_state=seed)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    inward: Callable[[Any], Tensor] = lambda x: torch.from_numpy((x - mean) / deviation).float()  # noqa: E731
    return Split(inward(train), inward(test), marked)


def configured(choices: Choices, train: Tensor) -> Config:
    """What a user gets who asks for `choices` on a file with the rows `train` (n, 30)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, train.numpy())
        return configuration(Files(path=str(path)), choices, name="wbc", folder=Path(folder))[0]


def ours(choices: Choices, split: Split, *, seed: int) -> Scores:
    """The scores (m,) of the split's test rows by a network that `choices` give."""
    config = configured(choices, split.train)
    held_out = len(split.train) // VALIDATION
    network = trained(
        config.architecture,
        config.objective,
        replace(config.fitting, threads=1),
        train=split.train[held_out:],
        validation=split.train[:held_out],
        seed=seed,
        range=None,
    )
    score = score_of(config, network)
    score.fit(split.train)
    with torch.no_grad():
        return score(split.test).double().numpy()  # type: ignore[no-any-return]


def references(split: Split, *, seed: int) -> dict[str, Scores]:
    """The scores (m,) of the split's test rows by PyOD's detectors, all as they come."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.pca import PCA
    from pyod.models.vae import VAE

    found = {}
    for detector in (
        AutoEncoder(random_state=seed, verbose=0),
        VAE(random_state=seed, verbose=0),
        PCA(random_state=seed),
        KNN(),
        IForest(random_state=seed),
    ):
        detector.fit(split.train.numpy())
        found[type(detector).__name__] = detector.decision_function(split.test.numpy())
    found["distance from the mean"] = split.test.square().sum(dim=1).numpy()
    return found


def areas(scores_of: Callable[[Split, int], dict[str, Scores]], seeds: range) -> dict[str, tuple[float, ...]]:
    """The AUROC of each kind of scores on each split."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, tuple[float, ...]] = {}
    for seed in seeds:
        divided = split(seed)
        for name, scores in scores_of(divided, seed).items():
            found[name] = (*found.get(name, ()), float(roc_auc_score(divided.malignant, scores)))
    return found


def measure(full: bool) -> Outcome:
    """20 splits; every family as it comes and trimmed, on 10, where `full`."""
    seeds = range(SPLITS)
    figures = areas(lambda divided, seed: {"ours": ours(OURS, divided, seed=seed)}, seeds)["ours"]
    beside = areas(lambda divided, seed: references(divided, seed=seed), seeds)
    lines = [("method", "mean AUROC", "standard deviation"), _line("**ours**", figures)]
    lines += [_line(name if name.islower() else f"PyOD {name}", values) for name, values in beside.items()]
    for family in FAMILIES if full else ():
        for trim in (0.0, 0.1):
            choices = Choices(family=family, trim=trim)
            few = areas(lambda divided, seed, c=choices: {"": ours(c, divided, seed=seed)}, range(10))[""]  # type: ignore[misc]
            lines.append(_line(f"{family}, defaults" + (", trim 0.1" if trim else "") + " (10 splits)", few))
    return Outcome(
        setting="Scikit-learn's breast cancer data: all 357 benign rows and 21 malignant ones, drawn anew for each of "
        f"{SPLITS} splits; 60 % to train on, anomalies and all, 40 % to test; z-scores by the training rows. Ours is "
        "what the defaults for tables give with `--family variational --beta 10 --trim 0.1`, scored by the "
        "reconstruction error; PyOD's detectors have their defaults and the same splits",
        seeds=tuple(seeds),
        checks=(Check(what="AUROC, mean over splits", figures=figures, bound=0.94, at_most=False),),
        references=(
            *(
                Reference(name=f"PyOD {name}", value=float(np.mean(beside[name])), source="same splits", measured=True)
                for name in PUBLISHED
            ),
            *(
                Reference(name=f"PyOD {name}", value=value, source="PyOD's benchmark, its own 21 rows", measured=False)
                for name, value in PUBLISHED.items()
            ),
        ),
        table=tuple(lines),
        notes=NOTES,
    )


def _line(name: str, values: tuple[float, ...]) -> tuple[str, ...]:
    return name, f"{np.mean(values):.4f}", f"{np.std(values):.4f}"


NOTES = (
    "beta and trim were chosen on 16 other splits (seeds 1000 to 1015): their rows are the same 569, so this guards "
    "against luck with a split, not against choosing for this data. There beta 6 or 10 and trim 0.1 or 0.2 lay within "
    "0.002 of each other; trim 0 lost 0.007.",
    "Without both, networks of every family reconstruct the anomalies that they were trained on along with the rest: "
    "on 8 of those splits 0.80 to 0.84 by the reconstruction error. Isolation forests, which PyOD's tables rank below "
    "others here, stay ahead of ours by a tenth of the deviation between splits.",
    "With so strong a prior the codes say nothing: the reconstruction is all but one row, its mean squared error over "
    "training rows 1.0 in squared standard deviations, and what scores is the distance from a centre that trimming "
    "keeps clear of anomalies. That is why these two are options and no defaults (decision 0005). With beta 1 and "
    "trim 0.1 the same network gave .84 by the reconstruction error, .918 by `mahalanobis`, .925 by `rapp_nap` on 6 "
    "splits, a linear one .920 and by `mahalanobis_residual` .924.",
)

ROW = Row(
    name="breast-cancer",
    title="Breast cancer, PyOD's `wbc` protocol",
    published="PyOD AE .923, VAE .922",
    goal="mean AUROC of 20 splits >= .94",
    measure=measure,
)
