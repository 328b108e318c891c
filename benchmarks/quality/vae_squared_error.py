"""A variational autoencoder with 8 values per code: squared error + divergence per image, as in DeepOBS."""

import math

import torch
from torch import Generator

from benchmarks.quality.row import Check, Curve, Outcome, Reference, Row
from benchmarks.quality.trained import fashion_splits, trained
from training.config import Fitting
from training.fit import Epoch
from training.networks import Architecture
from training.objectives import Variational

SEEDS = (0, 1)
EPOCHS = 15
ARCHITECTURE = Architecture(hidden=(512, 256), latent=8, activation="silu", layer_norm=True)
FITTING = Fitting(epochs=EPOCHS, learning_rate=3e-3, threads=1)
# A Gaussian of variance 1/2 has the density exp(-(x - y)^2) / sqrt(pi): its surprise is the squared error and, for each
# of 784 pixels, log(pi) / 2 nats, which DeepOBS leaves out.
OBJECTIVE = Variational(likelihood="gaussian", spread=math.sqrt(0.5))
CONSTANT = 784 * math.log(math.pi) / 2
# Means of ten seeds, by epoch.
PUBLISHED = {1: 29.68, 2: 27.65, 5: 25.65, 10: 24.60, 20: 23.88, 50: 23.27, 100: 23.07}


def figures(seed: int) -> tuple[float, list[float]]:
    """Squared error + divergence of the test file, the code drawn once for each image, and after every epoch that of
    the validation rows."""
    train, validation, test = fashion_splits()
    epochs: list[Epoch] = []
    network = trained(
        ARCHITECTURE, OBJECTIVE, FITTING, train=train, validation=validation, seed=seed, on_epoch=epochs.append
    )
    with torch.no_grad():
        loss = OBJECTIVE.loss(network, test, Generator().manual_seed(seed)).item()
    return loss - CONSTANT, [epoch.validation_loss - CONSTANT for epoch in epochs]


def measure(full: bool) -> Outcome:  # noqa: ARG001 (there is no larger table)
    """Two seeds."""
    results = [figures(seed) for seed in SEEDS]
    return Outcome(
        setting="Fashion-MNIST, 58,000 rows to train on, 2,000 to validate, all 10,000 of the test file, in [0, 1]; "
        f"784-512-256-8, SiLU, layer normalisation, {EPOCHS} epochs of batches of 128; squared error summed over "
        "pixels + divergence, per image, one drawn code",
        seeds=SEEDS,
        checks=(
            Check(
                what="squared error + divergence per image",
                figures=tuple(figure for figure, _ in results),
                bound=24.0,
                at_most=True,
            ),
        ),
        references=(
            Reference(
                name="DeepOBS fmnist_vae, 10 epochs", value=24.60, source="its logs, mean of 10 seeds", measured=False
            ),
            Reference(
                name="DeepOBS fmnist_vae, 100 epochs", value=23.07, source="its logs, mean of 10 seeds", measured=False
            ),
        ),
        curves=(
            Curve(
                name="ours, validation rows, seed 0",
                x=tuple(float(number) for number in range(1, len(results[0][1]) + 1)),
                y=tuple(results[0][1]),
            ),
            Curve(
                name="DeepOBS, test rows",
                x=tuple(float(number) for number in PUBLISHED if number <= EPOCHS),
                y=tuple(value for number, value in PUBLISHED.items() if number <= EPOCHS),
            ),
        ),
        axes=("epoch", "squared error + divergence"),
        notes=(
            "The same objective and number of values per code as DeepOBS, another network: theirs has convolutions and "
            "dropout, trained on all 60,000 rows.",
            "A Gaussian likelihood of variance 1/2 less its constant, so these are nats of another kind than those of "
            "grey or binarised values.",
        ),
    )


ROW = Row(
    name="vae-squared-error",
    title="VAE, latent 8, squared error + KL per image",
    published="24.60 (10 epochs), 23.07 (100)",
    goal="<= 24.0",
    measure=measure,
)
