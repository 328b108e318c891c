"""The networks: `encode` and `decode`, with everything between input units and the first layer inside.

Wide, narrow, wide: encoder d -> hidden -> k, decoder k -> reversed hidden -> d. Without hidden layers and with a linear
output it is the linear autoencoder, whose optimum spans the k leading principal components (Baldi & Hornik 1989).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from training.corruption import Range

__all__ = ["ACTIVATIONS", "Architecture", "Autoencoder", "VariationalAutoencoder", "build"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Layer widths and what stands between them."""

    hidden: tuple[int, ...]
    latent: int
    activation: str = "relu"
    layer_norm: bool = False
    standardise: bool = True
    output: Literal["sigmoid", "linear"] = "sigmoid"

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.latent < 1 or any(width < 1 for width in self.hidden):
            found.append("every layer, the code included, needs a width of at least 1")
        if self.activation not in ACTIVATIONS:
            found.append(f"no activation is called {self.activation!r}; there are {', '.join(ACTIVATIONS)}")
        if self.output not in ("sigmoid", "linear"):
            found.append(f"no output is called {self.output!r}; there are sigmoid and linear")
        return found


class Autoencoder(nn.Module):
    """A deterministic autoencoder of rows (n, d) with codes (n, k).

    `range` is the data's declared one, which a sigmoid output needs. Buffers hold what turns input units into what the
    layers see, so the network alone says what it computes.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, size: int, architecture: Architecture, *, range: Range) -> None:
        super().__init__()
        widths = [size, *architecture.hidden]
        self.range = range
        self.squashed = architecture.output == "sigmoid"
        self.trunk = _layers(widths, architecture)
        self.code = nn.Linear(widths[-1], architecture.latent)
        # The decoder's last layer has no activation of its own: `output` is what follows it.
        back = [architecture.latent, *reversed(architecture.hidden)]
        self.decoder = _layers(back, architecture).append(nn.Linear(back[-1], size))
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("scale", torch.ones(()))

    def standardise_by(self, rows: Tensor, *, one_scale: bool) -> None:
        """From here on the layers see rows less their mean over `rows` (m, d), divided by the standard deviation.

        `one_scale` takes one deviation for all elements, as pixels need: those that hardly ever vary would otherwise
        be blown up. Else there is one per element, 1 where an element never varies.
        """
        centred = rows - rows.mean(dim=0)
        deviation = centred.square().mean().sqrt() if one_scale else centred.square().mean(dim=0).sqrt()
        self.offset = rows.mean(dim=0)
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def encode(self, x: Tensor) -> Tensor:
        """The codes (n, k) of rows x (n, d)."""
        z: Tensor = self.code(self.hidden(x))
        return z

    def hidden(self, x: Tensor) -> Tensor:
        """What the encoder's hidden layers make of rows x (n, d)."""
        h: Tensor = self.trunk((x - self.offset) / self.scale)
        return h

    def logits(self, z: Tensor) -> Tensor:
        """The decoder's last layer (n, d) for codes z (n, k), before the output function."""
        logits: Tensor = self.decoder(z)
        return logits

    def output(self, logits: Tensor) -> Tensor:
        """Logits (n, d) in input units: squashed into the range by a sigmoid, else scaled back."""
        if not self.squashed or self.range is None:
            return logits * self.scale + self.offset
        low, high = self.range
        return low + (high - low) * torch.sigmoid(logits)

    def decode(self, z: Tensor) -> Tensor:
        """Rows (n, d), in input units, for codes z (n, k)."""
        return self.output(self.logits(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """decode(encode(x)), shape (n, d)."""
        return self.decode(self.encode(x))


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose encoder gives the mean and the log variance of a diagonal Gaussian over codes
    (Kingma & Welling 2014, appendix C.2). `encode` is the mean."""

    def __init__(self, size: int, architecture: Architecture, *, range: Range) -> None:
        super().__init__(size, architecture, range=range)
        self.log_variance = nn.Linear(self.code.in_features, architecture.latent)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (n, k), of the codes of rows x (n, d)."""
        h = self.hidden(x)
        # exp() of the ends is finite in float32, so even rows far from all training data have a finite divergence.
        return self.code(h), self.log_variance(h).clamp(-20, 20)


def build(size: int, architecture: Architecture, *, variational: bool, range: Range, seed: int) -> Autoencoder:
    """A network for rows of `size` values whose weights `seed` alone decides; the global generator stays as it was."""
    kind = VariationalAutoencoder if variational else Autoencoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(size, architecture, range=range)


def _layers(widths: Sequence[int], architecture: Architecture) -> nn.Sequential:
    """Linear layers from each width to the next, each normalised, if at all, and activated."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers.append(nn.Linear(before, after))
        if architecture.layer_norm:
            layers.append(nn.LayerNorm(after))
        layers.append(ACTIVATIONS[architecture.activation]())
    return nn.Sequential(*layers)
