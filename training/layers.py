"""The parts that networks are put together from, where torch has none: each traces for any number of rows."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.manifest import ImageSpec

__all__ = ["PictureNorm", "Pictures", "Rows", "TopK", "Transposed", "UnitColumns", "top_k"]


class TopK(nn.Module):
    """Keeps the `k` values of each row with the largest magnitude and sets the others to exactly 0, through which no
    gradient flows (Makhzani & Frey 2013, section 2.1)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        """z (n, m) with at most k values in a row that are not 0; of equal magnitudes some k are kept."""
        return top_k(z, self.k)


def top_k(z: Tensor, k: int) -> Tensor:
    """z (n, m) with all but the `k` values of largest magnitude in each row set to 0."""
    kept = torch.zeros_like(z).scatter(1, z.abs().topk(k, dim=1).indices, 1.0)
    return torch.where(kept > 0, z, torch.zeros_like(z))


class UnitColumns(nn.Linear):
    """A linear layer whose weight columns, one for each value that it reads, have Euclidean norm 1 whatever its
    parameter is: a reparameterisation, so that a penalty on those values cannot be escaped by making them small and
    the weights large (Olshausen & Field 1996 hold the norms for the same reason)."""

    @property
    def columns(self) -> Tensor:
        """The weight that is used, shape (out, in)."""
        return functional.normalize(self.weight, dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's answer (n, out) to x (n, in)."""
        return functional.linear(x, self.columns, self.bias)


class Transposed(nn.Module):
    """A linear layer whose weight is the transpose of another layer's, with a bias of its own (tied weights: Vincent et
    al. 2010, section 2.2)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, z: Tensor) -> Tensor:
        """The layer's answer (n, in) to z (n, out), in and out being those of the other layer."""
        return functional.linear(z, self.weight.t(), self.bias)


class Pictures(nn.Module):
    """Rows as pictures: from (n, height * width * channels), channels last, to (n, channels, height, width)."""

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        self.shape = (image.height, image.width, image.channels)

    def forward(self, x: Tensor) -> Tensor:
        """The pictures of rows x."""
        return x.reshape(-1, *self.shape).permute(0, 3, 1, 2)


class PictureNorm(nn.GroupNorm):
    """Layer normalisation of a picture over its channels and pixels, with a gain and a bias for each channel (Ba et al.
    2016; Wu & He 2018 with one group)."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, pictures: Tensor) -> Tensor:
        """`pictures` (n, channels, height, width), normalised."""
        # torch's own forward looks at sizes first, which tracing cannot follow.
        return torch.group_norm(pictures, 1, self.weight, self.bias, self.eps)


class Rows(nn.Module):
    """Pictures as rows: the inverse of `Pictures`."""

    def forward(self, pictures: Tensor) -> Tensor:
        """The rows of `pictures`."""
        return pictures.permute(0, 2, 3, 1).flatten(1)
