"""The importance-weighted bound: a tighter lower bound on the evidence than the ELBO."""

import math

import torch
from torch import Tensor

__all__ = ["log_weight", "negative_bound"]


def log_weight(surprise: Tensor, z: Tensor, *, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log w = log p(x | z) + log p(z) - log q(z | x), in nats, shape (n,), of draws z (n, k) from q, the Gaussian of
    `mean` and `log_variance` (n, k); `surprise` (n,) is -log p(x | z) and the prior is N(0, I)."""
    # Both densities have the factor (2 pi)^(-k / 2).
    squared = (z - mean).square() * (-log_variance).exp()
    return 0.5 * (log_variance + squared - z.square()).sum(dim=1) - surprise


def negative_bound(log_weights: Tensor) -> Tensor:
    """-log 1/K sum_i w_i, in nats, shape (n,), from `log_weights` (K, n) of K draws (Burda et al. 2015, equation 8).

    Its mean over draws is at most the negative ELBO, which K = 1 gives, and falls to -log p(x) as K grows.
    """
    return math.log(len(log_weights)) - torch.logsumexp(log_weights, dim=0)
