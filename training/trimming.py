"""Training on data in which some rows do not belong."""

import math

import torch
from torch import Tensor

from training.networks import Autoencoder

__all__ = ["trimmed"]


def trimmed(network: Autoencoder, x: Tensor, *, share: float) -> Tensor:
    """The rows of the batch x (n, d) without the `share` of them, rounded down, that `network` reconstructs worst; the
    others in their order.

    Whatever is minimised is then the trimmed loss 1/h sum_{i <= h} L_(i), h = n - floor(share n), with rows ordered by
    their squared error (least trimmed squares: Rousseeuw 1984, JASA 79, equation 1.4; batch by batch as in Shen &
    Sanghavi 2019, ICML, algorithm 1). A row that does not belong pulls on the network only while it is not yet told
    from the others, and it can pull no further than the worst row that is kept.
    """
    dropped = math.floor(share * len(x))
    if dropped == 0:
        return x
    with torch.no_grad():
        errors = (network.reconstruct(x) - x).square().mean(dim=1)
    return x[errors.argsort(stable=True)[: len(x) - dropped].sort().values]
