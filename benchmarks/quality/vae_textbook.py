"""The textbook's variational autoencoder, 784-400-20: grey cross-entropy + divergence on the test file."""

import torch
from torch import Generator

from benchmarks.quality.row import Check, Outcome, Reference, Row
from benchmarks.quality.trained import fashion_splits, trained
from training.config import Fitting
from training.evaluate import grey_entropy
from training.networks import Architecture
from training.objectives import Variational

SEEDS = (0, 1, 2)
TEXTBOOK = Architecture(hidden=(400,), latent=20, standardise=False)
TEXTBOOK_FITTING = Fitting(epochs=10, batch_size=128, learning_rate=1e-3, schedule="constant", threads=1)
OURS = Architecture(hidden=(400,), latent=20)
OURS_FITTING = Fitting(epochs=10, batch_size=128, learning_rate=8e-3, schedule="cosine", threads=1)


def negative_elbo(architecture: Architecture, fitting: Fitting, *, seed: int) -> float:
    """The negative ELBO (nats per image) of the test file, the code drawn once for each image, after fitting."""
    train, validation, test = fashion_splits()
    objective = Variational(likelihood="bernoulli")
    network = trained(architecture, objective, fitting, train=train, validation=validation, seed=seed)
    with torch.no_grad():
        return objective.loss(network, test, Generator().manual_seed(seed)).item()


def measure(full: bool) -> Outcome:  # noqa: ARG001 (there is no larger table)
    """Three seeds of ours, one of the textbook's settings in the same loop."""
    ours = tuple(negative_elbo(OURS, OURS_FITTING, seed=seed) for seed in SEEDS)
    textbook = negative_elbo(TEXTBOOK, TEXTBOOK_FITTING, seed=0)
    floor = grey_entropy(fashion_splits()[2]).mean().item()
    return Outcome(
        setting="Fashion-MNIST, 58,000 rows to train on, 2,000 to validate, all 10,000 of the test file; 784-400-20, "
        "ReLU, Bernoulli likelihood of grey values, 10 epochs, batches of 128, Adam; nats per image, one drawn code",
        seeds=SEEDS,
        checks=(
            Check(what="negative ELBO, one drawn code", figures=ours, bound=243.0, at_most=True, unit="nats"),
            Check(
                what="the same, above the floor",
                figures=tuple(value - floor for value in ours),
                bound=243.0 - floor,
                at_most=True,
                unit="nats",
            ),
        ),
        references=(
            Reference(
                name="the textbook's settings in our loop",
                value=textbook,
                source="1e-3 throughout, seed 0",
                measured=True,
            ),
            Reference(
                name="the textbook's loop", value=244.1, source="pytorch/examples vae/main.py, one run", measured=True
            ),
            Reference(name="entropy of the grey values, the floor", value=floor, source="the test file", measured=True),
        ),
        notes=(
            "The same network, epochs and batches as the textbook's. What differs: the rows are standardised inside "
            "the network, and the rate of learning starts at 8e-3 and falls to 0 along half a cosine. "
            "2e-3 on the same cosine missed, with 243.9 on the test file; on the validation rows 4e-3 gave 243.1 and "
            "8e-3 242.1, warming the divergence up 243.9, and SiLU with layer normalisation at 8e-3 243.0.",
            "A cross-entropy of grey values cannot come below their own entropy, so the figure is not comparable with "
            "those of binarised images nor with those of a squared error.",
        ),
    )


ROW = Row(
    name="vae-textbook",
    title="VAE 784-400-20, grey cross-entropy + KL",
    published="244.1 (textbook loop)",
    goal="<= 243.0, same epochs and batch",
    measure=measure,
)
