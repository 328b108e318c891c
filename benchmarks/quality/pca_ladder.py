"""An autoencoder against principal components at equal numbers of values per code."""

import torch

from benchmarks.quality.row import Check, Curve, Outcome, Reference, Row
from benchmarks.quality.trained import fashion_splits, trained
from training.config import Fitting
from training.evaluate import principal_components_error
from training.networks import Architecture
from training.objectives import Vanilla

SEEDS = (0, 1)
LADDER = (2, 8, 16, 32, 64)
FITTING = Fitting(epochs=5, learning_rate=3e-3, threads=1)


def architecture(latent: int) -> Architecture:
    """One for all codes."""
    return Architecture(hidden=(400,), latent=latent, activation="silu", layer_norm=True)


def test_error(latent: int, *, seed: int) -> float:
    """The mean squared error per pixel of the test file's reconstructions."""
    train, validation, test = fashion_splits()
    network = trained(architecture(latent), Vanilla(), FITTING, train=train, validation=validation, seed=seed)
    with torch.no_grad():
        return (network.reconstruct(test) - test).square().mean().item()


def measure(full: bool) -> Outcome:  # noqa: ARG001 (there is no larger table)
    """The ladder, two seeds of each autoencoder."""
    train, _, test = fashion_splits()
    components = {k: principal_components_error(train, test, components=k) for k in LADDER}
    ours = {k: tuple(test_error(k, seed=seed) for seed in SEEDS) for k in LADDER}
    checks = [
        Check(what=f"MSE with codes of {k} values, below PCA", figures=ours[k], bound=components[k], at_most=True)
        for k in LADDER
    ]
    checks.append(Check(what="MSE with codes of 64 values", figures=ours[64], bound=0.0075, at_most=True))
    sizes = tuple(float(k) for k in LADDER)
    return Outcome(
        setting="Fashion-MNIST, 58,000 rows to train on, 2,000 to validate, mean squared error per pixel in [0, 1] "
        "on all 10,000 of the test file; 784-400-k, SiLU, layer normalisation, 5 epochs; PCA of the "
        "same 58,000 rows",
        seeds=SEEDS,
        checks=tuple(checks),
        references=(
            *(
                Reference(name=f"PCA, k = {k}", value=components[k], source="the same rows", measured=True)
                for k in LADDER
            ),
            Reference(
                name="PCA, k = 64",
                value=0.0091,
                source="enase-elhaj/pca-vs-autoencoder, 1,000 test rows",
                measured=False,
            ),
            Reference(
                name="autoencoder 784-256-64, 20 epochs on 20,000 rows",
                value=0.00971,
                source="enase-elhaj/pca-vs-autoencoder",
                measured=False,
            ),
            Reference(
                name="autoencoder 784-64, 10 epochs", value=0.0088, source="TensorFlow's tutorial, logs", measured=False
            ),
        ),
        curves=(
            Curve(name="autoencoder", x=sizes, y=tuple(checks[i].mean for i in range(len(LADDER)))),
            Curve(name="principal components", x=sizes, y=tuple(components.values())),
        ),
        axes=("values per code", "test MSE per pixel"),
        notes=("One architecture, that of the shipped fashion-vanilla, and one fitting for all k; nothing was tuned.",),
    )


ROW = Row(
    name="pca-ladder",
    title="AE against PCA at k = 2, 8, 16, 32, 64, test MSE",
    published="PCA k=64 .0091, tutorial AE-64 .0088",
    goal="below PCA at every k; k=64 <= .0075",
    measure=measure,
)
