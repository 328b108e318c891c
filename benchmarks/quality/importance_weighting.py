"""Importance-weighted autoencoders against a variational one on dynamically binarised clothes.

Burda, Grosse & Salakhutdinov 2015, "Importance weighted autoencoders", table 1, one stochastic layer.
"""

import math

import torch
from torch import Generator, Tensor

from benchmarks.quality.row import Check, Curve, Outcome, Reference, Row
from benchmarks.quality.trained import fashion_splits, trained
from training.config import Fitting
from training.networks import Architecture, VariationalAutoencoder
from training.objectives import Variational
from training.objectives.importance_weighting import log_weight, negative_bound
from training.objectives.variational import reparameterise
from training.rows import Rows

SEEDS = (0,)
SAMPLES = (1, 5, 50)  # of the bound that is maximised; 1 is the variational autoencoder
DRAWS = 5_000
TRAIN_ROWS, VALIDATION_ROWS, TEST_ROWS = 20_000, 250, 500
STEPS = (1, 5, 50, 500, DRAWS)  # numbers of samples to estimate with
CHUNK = 20
ARCHITECTURE = Architecture(hidden=(200, 200), latent=50, activation="tanh")
FITTING = Fitting(epochs=10, batch_size=20, learning_rate=3e-3, threads=1)


def fitted(samples: int, *, seed: int) -> VariationalAutoencoder:
    """A network that maximises the bound of so many importance samples; pixels are drawn anew in every epoch."""
    train, validation, _ = fashion_splits()
    generator = Generator().manual_seed(seed)

    def binarise(x: Tensor) -> Tensor:
        return torch.bernoulli(x, generator=generator)

    network = trained(
        ARCHITECTURE,
        Variational(likelihood="bernoulli", importance_samples=samples),
        FITTING,
        train=Rows(train.numpy(), torch.arange(TRAIN_ROWS), (binarise,)),
        validation=binarised(validation[:VALIDATION_ROWS]),
        seed=seed,
    )
    assert isinstance(network, VariationalAutoencoder)
    return network


def binarised(x: Tensor) -> Tensor:
    """Grey values (n, d) as probabilities of white, drawn once and the same for all."""
    return torch.bernoulli(x, generator=Generator().manual_seed(0))


@torch.no_grad()
def log_weights(network: VariationalAutoencoder, x: Tensor, *, seed: int) -> Tensor:
    """Log importance weights (5,000, n), in nats, of binary rows x (n, d)."""
    objective = Variational(likelihood="bernoulli")
    generator = Generator().manual_seed(seed)
    mean, log_variance = network.encode_distribution(x)
    rows, mean, log_variance = (part.repeat(CHUNK, 1) for part in (x, mean, log_variance))
    found = []
    for _ in range(DRAWS // CHUNK):
        z = reparameterise(mean, log_variance, generator)
        logits = network.logits(z)
        surprise = objective.surprise(rows, logits=logits, outputs=logits)
        found.append(log_weight(surprise, z, mean=mean, log_variance=log_variance).view(CHUNK, len(x)))
    return torch.cat(found)


def bounds(weights: Tensor, draws: tuple[int, ...]) -> tuple[float, ...]:
    """The negative bound of so many of the `weights` (5,000, n), a mean over groups of draws and over rows, in nats."""
    return tuple(
        negative_bound(weights.view(-1, count, weights.shape[1]).transpose(0, 1)).mean().item() for count in draws
    )


def measure(full: bool) -> Outcome:  # noqa: ARG001 (there is no larger table)
    """One network for each number of samples, equal in everything else."""
    test = binarised(fashion_splits()[2][:TEST_ROWS])
    networks = {samples: fitted(samples, seed=SEEDS[0]) for samples in SAMPLES}
    weights = {samples: log_weights(network, test, seed=0) for samples, network in networks.items()}
    estimates = {samples: bounds(found, STEPS) for samples, found in weights.items()}
    vae, five, fifty = (estimates[samples][-1] for samples in SAMPLES)
    names = ("VAE", "IWAE-5", "IWAE-50")
    return Outcome(
        setting=f"Fashion-MNIST, {TRAIN_ROWS:,} rows to train on, every pixel drawn anew with its grey value as the "
        f"probability of white in each of {FITTING.epochs} epochs of batches of {FITTING.batch_size}; 784-200-200-50, "
        f"tanh, Bernoulli likelihood; -log p(x) in nats per image, estimated by 5,000 importance samples on the first "
        f"{TEST_ROWS} images of the test file, drawn once; all three networks by the same settings",
        seeds=SEEDS,
        checks=(
            Check(what="IWAE-5 below the VAE by", figures=(vae - five,), bound=1.0, at_most=False, unit="nats"),
            Check(what="IWAE-50 below IWAE-5 by", figures=(five - fifty,), bound=0.5, at_most=False, unit="nats"),
        ),
        references=(
            *(
                Reference(name=f"{name}, -log p(x)", value=estimates[samples][-1], source="this row", measured=True)
                for name, samples in zip(names, SAMPLES, strict=True)
            ),
            Reference(
                name="IWAE-5 below the VAE by, MNIST",
                value=1.2,
                source="Burda et al. 2015, table 1, 3,280 epochs",
                measured=False,
            ),
            Reference(
                name="IWAE-50 below IWAE-5 by, MNIST",
                value=0.8,
                source="Burda et al. 2015, table 1, 3,280 epochs",
                measured=False,
            ),
        ),
        table=(
            ("network", *(f"negative bound of {count:,} samples" for count in STEPS)),
            *(
                (name, *(f"{value:.2f}" for value in estimates[samples]))
                for name, samples in zip(names, SAMPLES, strict=True)
            ),
        ),
        curves=tuple(
            Curve(name=name, x=tuple(math.log10(count) for count in STEPS), y=estimates[samples])
            for name, samples in zip(names, SAMPLES, strict=True)
        ),
        axes=("importance samples of the estimate, decimal logarithm", "negative bound, nats per image"),
        notes=(
            "So few steps want a rate of learning above the paper's 1e-3: of the VAE, on validation rows and after a "
            "fifth of the training, 1e-3 gave 261.1 nats, 3e-3 252.6 and 6e-3 251.4. 3e-3 was taken for all three.",
            "The claim is the ordering at equal training, not the figure: the paper's networks see their data 3,280 "
            "times.",
            "With one sample the order is the reverse: an importance-weighted encoder spreads its draws, which the "
            "ELBO punishes and the bound of many samples rewards.",
            "Once more with seed 1: IWAE-5 1.09 nats below the VAE, IWAE-50 1.43 below IWAE-5. The order is the same; "
            "how the sum of 2.5 divides varies.",
        ),
    )


ROW = Row(
    name="importance-weighting",
    title="IWAE-5 and IWAE-50 against VAE, dynamic binarisation",
    published="1.2 and 0.8 nats (MNIST)",
    goal="same ordering, >= 1.0 and >= 0.5 nats",
    measure=measure,
)
