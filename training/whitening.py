"""A distance that counts a difference along each direction in units of what is usual along it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LEAST_VARIANCE", "MAX_RANK", "MAX_VALUES", "Whitening"]

MAX_RANK = 256
MAX_VALUES = 2**20  # of the matrix that goes into the bundle: 4 MB
MAX_SIDE = 2048  # of the matrix whose eigenvalues are computed: seconds
LEAST_VARIANCE = 1e-3  # of the largest; without a floor, directions that hardly ever vary would decide alone


class Whitening(nn.Module):
    """q(v) = sum_i (u_i^T (v - mean) / scale)^2 / max(l_i, l_1 / 1000): the squared Mahalanobis distance of a vector v
    (p values) from the vectors that this was fitted to (Mahalanobis 1936), regularised.

    l_i and u_i are the eigenvalues and eigenvectors of the covariance of what was fitted to, in falling order, at most
    `rank` of them, and no more than make 2^20 values in all. `scale` is 1, or with `each_scaled` the standard deviation
    of each value (1 where it never varies), so that no value's unit matters.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, *, each_scaled: bool, rank: int = MAX_RANK) -> None:
        super().__init__()
        self.each_scaled = each_scaled
        self.rank = rank
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("matrix", torch.zeros(0, 0))

    def fit(self, vectors: Tensor) -> None:
        """Distances are from `vectors` (m, p) from here on; computed in float64, kept in float32.

        Of vectors of more than 2,048 values, the first 2,048 are looked at.
        """
        if vectors.shape[1] > MAX_SIDE:
            vectors = vectors[:MAX_SIDE]
        exact = vectors.double()
        mean = exact.mean(dim=0)
        centred = exact - mean
        scale = torch.ones_like(mean)
        if self.each_scaled:
            deviation = centred.square().mean(dim=0).sqrt()
            # What rounding alone makes of a value that never varies is no deviation.
            varies = deviation > 1e-6 * exact.abs().amax(dim=0)
            scale = torch.where(varies, deviation, scale)
        centred = centred / scale
        count, width = centred.shape
        if width <= count:
            variances, directions = torch.linalg.eigh(centred.T @ centred / count)
        else:
            # The smaller product has the same eigenvalues, but for zeros, and leads to the same eigenvectors. What it
            # has of zeros is rounding, which stands for no direction.
            variances, combinations = torch.linalg.eigh(centred @ centred.T / count)
            combinations = combinations * (variances > 1e-10 * variances[-1])
            directions = functional.normalize(centred.T @ combinations, dim=0)
        rank = min(self.rank, max(1, MAX_VALUES // width))
        variances, directions = variances.flip(0)[:rank], directions.flip(1)[:, :rank]
        floor = max(LEAST_VARIANCE * float(variances[0]), torch.finfo(torch.float32).tiny)
        self.mean = mean.float()
        self.matrix = (directions / scale[:, None] / variances.clamp(min=floor).sqrt()).float()

    def coordinates(self, vectors: Tensor) -> Tensor:
        """What q is the sum of the squares of, for each of the directions: shape (n, directions)."""
        return (vectors - self.mean) @ self.matrix

    def forward(self, vectors: Tensor) -> Tensor:
        """q (n,) of `vectors` (n, p)."""
        return self.coordinates(vectors).square().sum(dim=1)
