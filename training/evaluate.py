"""Quality figures of the exported program on the test split, which nothing before has seen."""

import numpy as np
import torch
from torch import Generator, Tensor

from bundle.calibration import Calibration, Floats
from bundle.operations import Method
from training.config import Config
from training.corruption import Range
from training.export import Artefact
from training.moments import moments
from training.objectives import Denoising, Variational
from training.objectives.variational import divergence_from_prior, reparameterise
from training.rows import Features, chunks

__all__ = ["ALPHA", "evaluate", "noise", "principal_components_error"]

ALPHA = 0.01
NOISE_ROWS = 1000
WIDE = 4096


def evaluate(
    artefact: Artefact, config: Config, *, train: Features, test: Tensor, calibration: Calibration, bounds: Range
) -> dict[str, float]:
    """Figures on the test rows (n, d), by name; errors in squared input units, the rest as the model card explains.

    `train` is used for the reference alone: principal components, as many as a code has values.
    """
    (outputs,) = artefact.run(Method.RECONSTRUCT, test.numpy())
    (codes,) = artefact.run(Method.ENCODE, test[:1].numpy())
    (scores,) = artefact.run(Method.ANOMALY_SCORE, test.numpy())
    figures = {
        "reconstruct_mse": _mse(outputs, test),
        "principal_components_mse": principal_components_error(train, test, components=codes.shape[1]),
        f"test_rate_at_{ALPHA}": float((calibration.p_values(scores) <= ALPHA).mean()),
    }
    if bounds is not None:
        (scores,) = artefact.run(Method.ANOMALY_SCORE, noise(test.shape[1], bounds=bounds, seed=config.seed))
        figures[f"noise_rate_at_{ALPHA}"] = float((calibration.p_values(scores) <= ALPHA).mean())
    if isinstance(config.objective, Denoising):
        corrupted = config.objective.corruption(test, Generator().manual_seed(config.seed), bounds=bounds)
        figures["corrupted_mse"] = _mse(corrupted.numpy(), test)
        figures["denoise_mse"] = _mse(artefact.run(Method.DENOISE, corrupted.numpy())[0], test)
    if isinstance(config.objective, Variational):
        figures["negative_elbo"], figures["divergence"] = _bound(artefact, config.objective, test, seed=config.seed)
    return figures


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


def _bound(artefact: Artefact, objective: Variational, test: Tensor, *, seed: int) -> tuple[float, float]:
    """The negative ELBO, one draw of the code for each row, and its divergence term: means over rows, in nats."""
    mean, log_variance = map(torch.from_numpy, artefact.run(Method.ENCODE_DISTRIBUTION, test.numpy()))
    draws = reparameterise(mean, log_variance, Generator().manual_seed(seed))
    outputs = torch.from_numpy(artefact.run(Method.DECODE, draws.numpy())[0])
    # What float32 rounds to 0 or 1 has no logit; the margin costs at most 16 nats where such a value is wrong.
    surprise = objective.surprise(test, logits=outputs.logit(eps=1e-7), outputs=outputs).mean()
    divergence = divergence_from_prior(mean, log_variance).mean()
    return float(surprise + divergence), float(divergence)


def _mse(outputs: Floats, wanted: Tensor) -> float:
    return float(np.square(outputs - wanted.numpy(), dtype=np.float64).mean())
