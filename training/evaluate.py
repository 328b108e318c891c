"""Quality figures of the exported program on the test split, which nothing before has seen."""

import numpy as np
import torch
from torch import Generator, Tensor

from bundle.calibration import Calibration, Floats
from bundle.operations import Method
from training.config import Config
from training.corruption import Range
from training.detection import anomalous, detection
from training.export import Artefact
from training.moments import moments
from training.objectives import Denoising, Linear, Variational
from training.objectives.importance_weighting import log_weight, negative_bound
from training.objectives.variational import divergence_from_prior, reparameterise
from training.rows import Features, chunks

__all__ = ["ALPHA", "IMPORTANCE_DRAWS", "evaluate", "grey_entropy", "noise", "principal_components_error"]

ALPHA = 0.01
NOISE_ROWS = 1000
IMPORTANCE_DRAWS = 10
WIDE = 4096
LEAST = 1e-7  # float32 rounds to 0 and 1, which have no logit; the margin costs 16 nats where such a value is wrong


def evaluate(
    artefact: Artefact,
    config: Config,
    *,
    train: Features,
    test: Tensor,
    calibration: Calibration,
    bounds: Range,
    spread: Tensor | None = None,
    labels: Tensor | None = None,
) -> dict[str, float]:
    """Figures on the test rows (n, d), by name; errors in squared input units, the rest as the model card explains.

    `train` is used for the reference alone: principal components, as many as a code has values. `spread` is the
    standard deviation of a Gaussian likelihood, of all elements or of each (d,), where the network has learnt one.
    `labels` (n,) of 0 and 1 mark anomalies among the test rows; others play no part.
    """
    (outputs,) = artefact.run(Method.RECONSTRUCT, test.numpy())
    (codes,) = artefact.run(Method.ENCODE, test[:1].numpy())
    (scores,) = artefact.run(Method.ANOMALY_SCORE, test.numpy())
    marked = anomalous(labels)
    normal = scores if marked is None else scores[~marked]
    figures = {
        "reconstruct_mse": _mse(outputs, test),
        "principal_components_mse": principal_components_error(train, test, components=codes.shape[1]),
        f"test_rate_at_{ALPHA}": float((calibration.p_values(normal) <= ALPHA).mean()),
    }
    if marked is not None:
        found = detection(scores, marked, seed=config.seed)
        figures |= {"auroc": found.auroc, "average_precision": found.average_precision}
    if bounds is not None:
        (scores,) = artefact.run(Method.ANOMALY_SCORE, noise(test.shape[1], bounds=bounds, seed=config.seed))
        figures[f"noise_rate_at_{ALPHA}"] = float((calibration.p_values(scores) <= ALPHA).mean())
    if isinstance(config.objective, Denoising):
        corrupted = config.objective.corruption(test, Generator().manual_seed(config.seed), bounds=bounds)
        figures["corrupted_mse"] = _mse(corrupted.numpy(), test)
        figures["denoise_mse"] = _mse(artefact.run(Method.DENOISE, corrupted.numpy())[0], test)
    if isinstance(config.objective, Variational):
        figures |= _bounds(artefact, config.objective, test, spread=spread, seed=config.seed)
    elif not isinstance(config.objective, Linear) and config.objective.error == "cross_entropy":
        figures["cross_entropy"] = float(_cross_entropy(torch.from_numpy(outputs), test).mean())
    if "cross_entropy" in figures:
        figures["cross_entropy_floor"] = float(grey_entropy(test).mean())
    return figures


def grey_entropy(x: Tensor) -> Tensor:
    """-sum_i x_i log x_i + (1 - x_i) log(1 - x_i), in nats, shape (n,): no reconstruction of grey values x (n, d) in
    [0, 1] has a smaller cross-entropy, which is above 0 wherever a value is neither black nor white."""
    entropy: Tensor = torch.special.entr(x) + torch.special.entr(1 - x)
    return entropy.sum(dim=1)


def noise(size: int, *, bounds: tuple[float, float], seed: int) -> Floats:
    """1,000 rows of values drawn evenly from `bounds`, which no sensible score takes for normal."""
    low, high = bounds
    draw = torch.rand(NOISE_ROWS, size, generator=Generator().manual_seed(seed))
    return (low + (high - low) * draw).numpy()


def principal_components_error(train: Features, test: Tensor, *, components: int) -> float:
    """The mean squared error on `test` (m, d) of projecting onto the leading principal components of `train` (n, d):
    the best that any linear autoencoder can do (Baldi & Hornik 1989). For d above 4,096 they are those of at most 4,096
    rows."""
    if train.shape[1] > WIDE:
        sample = train[:WIDE]
        mean = sample.mean(dim=0)
        _, vectors = torch.linalg.eigh((sample - mean) @ (sample - mean).T)
        basis = torch.linalg.qr((sample - mean).T @ vectors[:, -components:]).Q
    else:
        mean = moments(train).mean.float()
        covariance = torch.zeros(train.shape[1], train.shape[1])
        for rows in chunks(train):
            covariance += (rows - mean).T @ (rows - mean)
        basis = torch.linalg.eigh(covariance).eigenvectors[:, -components:]
    return _mse(((test - mean) @ basis @ basis.T + mean).numpy(), test)


def _bounds(
    artefact: Artefact, objective: Variational, test: Tensor, *, spread: Tensor | None, seed: int
) -> dict[str, float]:
    """The negative ELBO, one draw of the code for each row, with its parts, and the importance-weighted bound: means
    over rows, in nats."""
    mean, log_variance = map(torch.from_numpy, artefact.run(Method.ENCODE_DISTRIBUTION, test.numpy()))
    generator = Generator().manual_seed(seed)
    surprises, log_weights = [], []
    for _ in range(IMPORTANCE_DRAWS):
        z = reparameterise(mean, log_variance, generator)
        outputs = torch.from_numpy(artefact.run(Method.DECODE, z.numpy())[0])
        # The logits of Gaussian outputs mean nothing, and nothing looks at them.
        surprises.append(objective.surprise(test, logits=outputs.logit(eps=LEAST), outputs=outputs, spread=spread))
        log_weights.append(log_weight(surprises[-1], z, mean=mean, log_variance=log_variance))
    divergence = float(divergence_from_prior(mean, log_variance).mean())
    surprise = float(surprises[0].mean())
    figures = {
        "negative_elbo": surprise + divergence,
        "divergence": divergence,
        "importance_weighted_bound": float(negative_bound(torch.stack(log_weights)).mean()),
    }
    return figures | ({"cross_entropy": surprise} if objective.likelihood == "bernoulli" else {})


def _cross_entropy(outputs: Tensor, wanted: Tensor) -> Tensor:
    """-sum_i x_i log y_i + (1 - x_i) log(1 - y_i), in nats, shape (n,), of `outputs` y with `wanted` x, both (n, d)."""
    y = outputs.clamp(LEAST, 1 - LEAST)
    return -(wanted * y.log() + (1 - wanted) * (1 - y).log()).sum(dim=1)


def _mse(outputs: Floats, wanted: Tensor) -> float:
    return float(np.square(outputs - wanted.numpy(), dtype=np.float64).mean())
