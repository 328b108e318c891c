"""What `anomaly_score` computes, as modules that go into the exported graph. None draws: equal rows, equal scores.

What a score needs to know of normal rows it learns in `fit`, from training rows alone, and keeps in buffers.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from bundle.manifest import ScoreKind
from training.clusters import Clusters
from training.config import Config
from training.networks import Autoencoder, VariationalAutoencoder
from training.objectives import Variational
from training.objectives.variational import divergence_from_prior
from training.rows import Features
from training.whitening import Whitening

__all__ = [
    "AnomalyScore",
    "Mahalanobis",
    "MahalanobisResidual",
    "NegativeElbo",
    "RappNap",
    "RappSap",
    "ReconstructionError",
    "WeightedError",
    "score_of",
]

FITTING_ROWS = 50_000
FITTING_VALUES = 2**25  # of what is learnt from: 128 MB
BATCH_ROWS = 256
COMPONENTS = 64
SMALL = 0.01
ALONE = 0.7  # more, and what is reconstructed well for its kind counts too little; less, and noise passes
TINY = torch.finfo(torch.float32).tiny


class AnomalyScore(nn.Module):
    """A score over `network`: rows (n, d) in, scores (n,) out, and the higher the more anomalous.

    `kind` is its name in a recipe and in the manifest; an `additive` one is the mean over elements of `anomaly_map`.
    """

    kind: ClassVar[ScoreKind]
    additive: ClassVar[bool] = False

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def fit(self, train: Features) -> None:
        """The score knows what it needs of normal rows, from the first 50,000 of `train` (m, d), from fewer where they
        give more than 2^25 values to learn from. By default it needs nothing."""

    def residual(self, x: Tensor) -> Tensor:
        """x - reconstruct(x), shape (n, d), in the units that the network's first layer sees."""
        return (x - self.network.reconstruct(x)) / self.network.scale


class ReconstructionError(AnomalyScore):
    """s(x) = 1/d ||x - decode(encode(x))||^2, in squared input units: the mean over elements of `anomaly_map`."""

    kind: ClassVar[ScoreKind] = "reconstruction_error"
    additive = True

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The squared error of every element, shape (n, d) as x."""
        return (self.network.reconstruct(x) - x).square()

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        return self.anomaly_map(x).mean(dim=1)


class WeightedError(ReconstructionError):
    """s(x) = max(w(x) E(x), b E(x)^p), E(x) = 1/d ||x - decode(encode(x))||^2, w(x) = (q(v) / Q)^c / (min(1/d ||x||^2,
    M) + e): the reconstruction error in proportion to the row's own square, up to the usual one, and weighed by how far
    the row's code and size, v, lie from those of the nearest cluster of training rows; or the error alone, where that
    is more unusual still. It is the mean over elements of `anomaly_map`, which shares it out as the errors are.

    An error is suspicious when the row has little that could be reconstructed wrongly, and when its code is none that
    training rows have; Zong et al. 2018 (ICLR, DAGMM, section 3.2) likewise judge the code and the relative error by
    one mixture. M is the mean of 1/d ||x||^2 over training rows, e a hundredth of it. q is the distance that `Clusters`
    says, of v = the 64 principal components of the code and the logarithms of 1/d ||x||_1 and 1/d ||x||^2, all
    whitened; Q is its mean over training rows, and c makes the logarithms of both factors vary equally there. b and p
    make log(b E^p) vary 0.7 times as much there as log(w E), around the same median: that is what noise, whose code
    and size are usual, is found by. Rows count from the lower end of a declared range, else from 0.
    """

    kind = "weighted_error"
    sizes_mean: Tensor
    sizes_deviation: Tensor
    least: Tensor
    usual: Tensor
    power: Tensor
    alone_factor: Tensor
    alone_power: Tensor

    def __init__(self, network: Autoencoder) -> None:
        super().__init__(network)
        self.whitening = Whitening(each_scaled=False, rank=COMPONENTS)
        self.clusters = Clusters()
        self.low = 0.0 if network.range is None else network.range[0]
        self.register_buffer("sizes_mean", torch.zeros(2))
        self.register_buffer("sizes_deviation", torch.ones(2))
        for name in ("least", "usual", "power", "alone_factor", "alone_power"):
            self.register_buffer(name, torch.ones(()))

    def fit(self, train: Features) -> None:
        """The clusters and all that is usual are those of rows of `train` (m, d)."""
        self.least = _of_batches(self._means, train).double().mean(dim=0).mul(SMALL).clamp(min=TINY).float()
        codes, sizes = _of_batches(self.network.encode, train), _of_batches(self._sizes, train)
        self.whitening.fit(codes)
        self.sizes_mean = sizes.mean(dim=0)
        self.sizes_deviation = sizes.std(dim=0).clamp(min=SMALL)
        self.clusters.fit(self._context(codes, sizes))
        distances = self.clusters(self._context(codes, sizes)).double().clamp(min=TINY)
        errors = _of_batches(self._errors, train).double().clamp(min=TINY).log()
        relative = errors - self._excuse(sizes)
        self.usual = distances.mean().float()
        self.power = (relative.std() / distances.log().std().clamp(min=SMALL)).clamp(max=1 / SMALL).float()
        weighted = relative + self.power * (distances / self.usual).log()
        self.alone_power = (ALONE * weighted.std() / errors.std().clamp(min=SMALL)).float()
        self.alone_factor = (weighted.median() - self.alone_power * errors.median()).exp().float()

    def anomaly_map(self, x: Tensor) -> Tensor:
        """What every element adds to the score, shape (n, d) as x."""
        codes, sizes = self.network.encode(x), self._sizes(x)
        squares = (self.network.decode(codes) - x).square()
        distances: Tensor = self.clusters(self._context(codes, sizes)) / self.usual
        weights = distances.pow(self.power) / self._excuse(sizes).exp()
        alone = self.alone_factor * squares.mean(dim=1).clamp(min=TINY).pow(self.alone_power - 1)
        return squares * weights.maximum(alone)[:, None]

    def _errors(self, x: Tensor) -> Tensor:
        """1/d ||x - decode(encode(x))||^2 of rows x (n, d): shape (n,)."""
        return (self.network.reconstruct(x) - x).square().mean(dim=1)

    def _means(self, x: Tensor) -> Tensor:
        """1/d ||x||_1 and 1/d ||x||^2 of rows x (n, d): shape (n, 2)."""
        height = x - self.low
        return torch.stack([height.abs().mean(dim=1), height.square().mean(dim=1)], dim=1)

    def _sizes(self, x: Tensor) -> Tensor:
        """The logarithms of both, each with a hundredth of what is usual added."""
        return (self._means(x) + self.least).log()

    def _excuse(self, sizes: Tensor) -> Tensor:
        """log(min(1/d ||x||^2, M) + e) of rows of these sizes (n, 2): shape (n,)."""
        return sizes[:, 1].minimum((self.least[1] * (1 + 1 / SMALL)).log())

    def _context(self, codes: Tensor, sizes: Tensor) -> Tensor:
        """v of rows with these codes (n, k) and sizes (n, 2): shape (n, components + 2)."""
        return torch.cat([self.whitening.coordinates(codes), (sizes - self.sizes_mean) / self.sizes_deviation], dim=1)


class NegativeElbo(AnomalyScore):
    """s(x) = -log p(x | z = mean(x)) + KL(q(z | x) || N(0, I)), in nats: the bound with the code at its mean instead of
    drawn. The divergence belongs to a row as a whole, so there is no map."""

    kind = "negative_elbo"

    def __init__(self, network: VariationalAutoencoder, objective: Variational) -> None:
        super().__init__(network)
        self.variational = network
        self.objective = objective

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        mean, log_variance = self.variational.encode_distribution(x)
        logits = self.network.logits(mean)
        outputs, spread = self.network.output(logits), self.network.spread
        surprise = self.objective.surprise(x, logits=logits, outputs=outputs, spread=spread)
        return surprise + divergence_from_prior(mean, log_variance)


class Mahalanobis(AnomalyScore):
    """s(x) = (z - m)^T C^-1 (z - m), z = encode(x), with the mean m and the covariance C of the training rows' codes:
    the squared Mahalanobis distance of the code (Lee et al. 2018, equation 2, with one class), regularised as
    `Whitening` says. It does not look at what the decoder makes of the code."""

    kind: ClassVar[ScoreKind] = "mahalanobis"

    def __init__(self, network: Autoencoder) -> None:
        super().__init__(network)
        self.whitening = Whitening(each_scaled=True)

    def fit(self, train: Features) -> None:
        """m and C are those of the codes of rows of `train` (m, d)."""
        self.whitening.fit(_of_batches(self.network.encode, train))

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        distances: Tensor = self.whitening(self.network.encode(x))
        return distances


class MahalanobisResidual(Mahalanobis):
    """s(x) = (z - m)^T C^-1 (z - m) + ||r||^2 / rho, r = x - decode(encode(x)), with rho the mean square of an element
    of r over the training rows: the distance within the space of codes plus that from it (Moghaddam & Pentland 1997,
    PAMI 19(7), where principal components take the network's place and rho is the variance left in each other
    direction). r is in the units that the first layer sees."""

    kind = "mahalanobis_residual"
    unexplained: Tensor

    def __init__(self, network: Autoencoder) -> None:
        super().__init__(network)
        self.register_buffer("unexplained", torch.ones(()))

    def fit(self, train: Features) -> None:
        """m, C and rho are those of rows of `train` (m, d)."""
        super().fit(train)
        mean_square = _of_batches(self.residual, train).double().square().mean()
        self.unexplained = mean_square.clamp(min=torch.finfo(torch.float32).tiny).float()

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        return super().forward(x) + self.residual(x).square().sum(dim=1) / self.unexplained


class RappSap(AnomalyScore):
    """s(x) = sum_i ||h_i(x) - h_i(decode(encode(x)))||^2, over the row as the first layer sees it (i = 0), each hidden
    layer of the encoder and the code: simple aggregation along the projection pathway (Kim et al. 2020, ICLR, RaPP,
    section 3). Without i > 0 it would be the reconstruction error, but for its unit."""

    kind: ClassVar[ScoreKind] = "rapp_sap"

    def differences(self, x: Tensor) -> Tensor:
        """h(x) - h(decode(encode(x))) with all layers side by side, shape (n, p), p the sum of their widths."""
        outputs = self.network.reconstruct(x)
        pairs = zip(self.network.activations(x), self.network.activations(outputs), strict=True)
        return torch.cat([(x - outputs) / self.network.scale, *(before - after for before, after in pairs)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        return self.differences(x).square().sum(dim=1)


class RappNap(RappSap):
    """s(x) = ||(d(x) - m)^T V S^-1||^2, d(x) the differences that SAP adds up, m their mean over the training rows, and
    U S V^T the singular value decomposition of these rows' d(x) - m, divided by the root of their number: normalised
    aggregation along the projection pathway (Kim et al. 2020, ICLR, RaPP, section 3), truncated and regularised as
    `Whitening` says."""

    kind = "rapp_nap"

    def __init__(self, network: Autoencoder) -> None:
        super().__init__(network)
        self.whitening = Whitening(each_scaled=False)

    def fit(self, train: Features) -> None:
        """m, V and S are those of rows of `train` (m, d)."""
        self.whitening.fit(_of_batches(self.differences, train))

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        distances: Tensor = self.whitening(self.differences(x))
        return distances


def score_of(config: Config, network: Autoencoder) -> AnomalyScore:
    """The score that a checked `config` asks for, over `network`; it still has to be fitted."""
    if (
        config.score == "negative_elbo"
        and isinstance(network, VariationalAutoencoder)
        and isinstance(config.objective, Variational)
    ):
        return NegativeElbo(network, config.objective)
    scores = (ReconstructionError, WeightedError, Mahalanobis, MahalanobisResidual, RappSap, RappNap)
    return next(score for score in scores if score.kind == config.score)(network)


@torch.no_grad()
def _of_batches(function: Callable[[Tensor], Tensor], rows: Features) -> Tensor:
    """What `function` gives for as many of the first rows as `AnomalyScore.fit` says, without gradients."""
    parts: list[Tensor] = []
    for start in range(0, min(len(rows), FITTING_ROWS), BATCH_ROWS):
        parts.append(function(rows[start : min(start + BATCH_ROWS, FITTING_ROWS)]))
        if len(parts) * parts[0].numel() >= FITTING_VALUES:
            break
    return torch.cat(parts)
