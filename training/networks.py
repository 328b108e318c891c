"""The networks: `encode` and `decode`, with everything between input units and the first layer inside.

Wide, narrow, wide: encoder d -> hidden -> k, decoder k -> reversed hidden -> d. Without hidden layers and with a linear
output it is the linear autoencoder, whose optimum spans the k leading principal components (Baldi & Hornik 1989).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bundle.manifest import ImageSpec
from training.corruption import Range
from training.errors import ConfigInvalid
from training.layers import PictureNorm, Pictures, Rows, TopK, Transposed, UnitColumns
from training.moments import moments
from training.rows import Features

__all__ = ["ACTIVATIONS", "Architecture", "Autoencoder", "VariationalAutoencoder", "build"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

# exp() of it, of the rows' own deviation, is the least that a learnt spread can be: without a floor, data that can be
# reconstructed exactly would have no best one (Rybkin et al. 2021, section 3.3).
LEAST_LOG_SPREAD = -6.0


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Layer widths and what stands between them.

    `hidden` are widths of linear layers (`mlp`), or numbers of channels of convolutions that halve height and width
    (`conv`). The code is what the last linear layer gives, through `code_activation` and then, with `top_k`, only the
    so many values of largest magnitude. `tied` decodes with the encoder's weights transposed; `unit_columns` holds the
    weight columns of every layer that reads hidden units or the code at norm 1. `learnt_spread` makes the standard
    deviation of a Gaussian likelihood a weight of the network.
    """

    hidden: tuple[int, ...]
    latent: int
    kind: Literal["mlp", "conv"] = "mlp"
    activation: str = "relu"
    layer_norm: bool = False
    code_activation: str = "linear"
    top_k: int | None = None
    tied: bool = False
    unit_columns: bool = False
    standardise: bool = True
    output: Literal["sigmoid", "linear"] = "sigmoid"
    learnt_spread: bool = False

    @property
    def narrowest(self) -> int:
        """The fewest values that a row passes through; from d on, the identity can be learnt."""
        widths = self.hidden if self.kind == "mlp" else ()
        return min(*widths, self.latent) if widths else self.latent

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.latent < 1 or any(width < 1 for width in self.hidden):
            found.append("every layer, the code included, needs a width of at least 1")
        if self.activation not in ACTIVATIONS:
            found.append(f"no activation is called {self.activation!r}; there are {', '.join(ACTIVATIONS)}")
        if self.code_activation not in ("linear", *ACTIVATIONS):
            found.append(
                f"no activation of the code is called {self.code_activation!r}; "
                f"there are linear, {', '.join(ACTIVATIONS)}"
            )
        if self.output not in ("sigmoid", "linear"):
            found.append(f"no output is called {self.output!r}; there are sigmoid and linear")
        if self.top_k is not None and not 1 <= self.top_k <= self.latent:
            found.append(f"top_k keeps between 1 and all {self.latent} values of a code, not {self.top_k}")
        if self.tied and self.unit_columns:
            found.append("tied weights cannot have unit columns too; choose one")
        if self.unit_columns and self.layer_norm:
            found.append("layer normalisation takes back what unit columns hold; choose one")
        match self.kind:
            case "mlp":
                pass
            case "conv":
                if not self.hidden:
                    found.append("a conv network needs at least one hidden layer, which is its number of channels")
                if self.tied or self.unit_columns:
                    found.append("tied weights and unit columns exist for mlp networks only")
            case _:
                found.append(f"no network is called {self.kind!r}; there are mlp and conv")
        return found


class Autoencoder(nn.Module):
    """A deterministic autoencoder of rows (n, d) with codes (n, k).

    `range` is the data's declared one, which a sigmoid output needs, and `image` what a row shows, which convolutions
    need. Buffers hold what turns input units into what the layers see, so the network alone says what it computes.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, size: int, architecture: Architecture, *, range: Range, image: ImageSpec | None = None) -> None:
        super().__init__()
        self.range = range
        self.squashed = architecture.output == "sigmoid"
        self.trunk, self.code, self.decoder = (
            _dense(size, architecture) if architecture.kind == "mlp" else _convolutional(image, architecture)
        )
        self.code_activation = _activation(architecture.code_activation)
        self.keep = nn.Identity() if architecture.top_k is None else TopK(architecture.top_k)
        self.register_buffer("offset", torch.zeros(size))
        self.register_buffer("scale", torch.ones(()))

    @property
    def spread(self) -> Tensor | None:
        """The learnt standard deviation of a Gaussian likelihood, where there is one: see VariationalAutoencoder."""
        return None

    def standardise_by(self, rows: Features, *, one_scale: bool) -> None:
        """From here on the layers see rows less their mean over `rows` (m, d), divided by the standard deviation.

        `one_scale` takes one deviation for all elements, as pixels need: those that hardly ever vary would otherwise
        be blown up. Else there is one per element, 1 where an element never varies.
        """
        found = moments(rows)
        deviation = found.deviation.square().mean().sqrt() if one_scale else found.deviation
        self.offset = found.mean.float()
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation)).float()

    def encode(self, x: Tensor) -> Tensor:
        """The codes (n, k) of rows x (n, d)."""
        z: Tensor = self.keep(self.dense(x))
        return z

    def dense(self, x: Tensor) -> Tensor:
        """The codes (n, k) of rows x (n, d) before `top_k` sets any of their values to 0."""
        z: Tensor = self.code_activation(self.code(self.hidden(x)))
        return z

    def hidden(self, x: Tensor) -> Tensor:
        """What the encoder's hidden layers make of rows x (n, d)."""
        h: Tensor = self.trunk((x - self.offset) / self.scale)
        return h

    def activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """What every hidden layer of the encoder gives for rows x (n, d), the code last: shapes (n, units)."""
        given = []
        h = (x - self.offset) / self.scale
        for layer in self.trunk:
            h = layer(h)
            given.append(h.flatten(1))
        return (*given, self.keep(self.code_activation(self.code(h))))

    def margin(self, x: Tensor) -> Tensor:
        """By how much of itself the smallest magnitude that top-k keeps lies above the largest that it drops, for each
        row of x (n, d): shape (n,), infinite where nothing is at stake. A larger error changes what is kept."""
        magnitudes = self.dense(x).abs()
        if not isinstance(self.keep, TopK) or self.keep.k == magnitudes.shape[1]:
            return torch.full((len(x),), torch.inf)
        last_kept, first_dropped = magnitudes.topk(self.keep.k + 1, dim=1).values[:, -2:].unbind(dim=1)
        return torch.where(last_kept > 0, 1 - first_dropped / last_kept, torch.inf)

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

    def __init__(self, size: int, architecture: Architecture, *, range: Range, image: ImageSpec | None = None) -> None:
        super().__init__(size, architecture, range=range, image=image)
        self.log_variance = nn.Linear(self.code.in_features, architecture.latent)
        self.log_spread = nn.Parameter(torch.zeros(())) if architecture.learnt_spread else None

    @property
    def spread(self) -> Tensor | None:
        """The learnt standard deviation of the Gaussian likelihood in input units, of every element or of each (d,):
        one factor times what the rows were standardised by (Rybkin et al. 2021, section 3.2). None when not learnt."""
        if self.log_spread is None:
            return None
        return self.log_spread.clamp(min=LEAST_LOG_SPREAD).exp() * self.scale

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (n, k), of the codes of rows x (n, d)."""
        h = self.hidden(x)
        # exp() of the ends is finite in float32, so even rows far from all training data have a finite divergence.
        return self.code(h), self.log_variance(h).clamp(-20, 20)


def build(
    size: int,
    architecture: Architecture,
    *,
    variational: bool,
    range: Range,
    seed: int,
    image: ImageSpec | None = None,
) -> Autoencoder:
    """A network for rows of `size` values whose weights `seed` alone decides; the global generator stays as it was.

    Raises ConfigInvalid for convolutions of rows that are no pictures.
    """
    kind = VariationalAutoencoder if variational else Autoencoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(size, architecture, range=range, image=image)


_Parts = tuple[nn.Sequential, nn.Linear, nn.Sequential]


def _activation(name: str) -> nn.Module:
    return nn.Identity() if name == "linear" else ACTIVATIONS[name]()


def _dense(size: int, architecture: Architecture) -> _Parts:
    """The encoder's hidden layers, the layer that gives the code, and the decoder, of linear layers."""
    # The encoder's first layer reads the row itself, which no scaling of units can change.
    reader = UnitColumns if architecture.unit_columns else nn.Linear
    widths = [size, *architecture.hidden, architecture.latent]
    layers = [(nn.Linear if i == 0 else reader)(*pair) for i, pair in enumerate(pairwise(widths))]
    back: list[nn.Module] = (
        [Transposed(layer) for layer in reversed(layers)]
        if architecture.tied
        else [reader(*pair) for pair in pairwise(reversed(widths))]
    )

    def block(layer: nn.Module, width: int) -> nn.Sequential:
        norm = [nn.LayerNorm(width)] if architecture.layer_norm else []
        return nn.Sequential(layer, *norm, ACTIVATIONS[architecture.activation]())

    trunk = nn.Sequential(*map(block, layers, architecture.hidden))
    # The decoder's last layer has no activation of its own: `output` is what follows it.
    decoder = nn.Sequential(*map(block, back, reversed(architecture.hidden)), back[-1])
    return trunk, layers[-1], decoder


def _convolutional(image: ImageSpec | None, architecture: Architecture) -> _Parts:
    """The same of convolutions with stride 2, and of transposed ones on the way back."""
    if image is None:
        raise ConfigInvalid("a conv network needs rows that are pictures; an mlp network takes any")

    def block(layer: nn.Module, channels: int) -> list[nn.Module]:
        norm = [PictureNorm(channels)] if architecture.layer_norm else []
        return [layer, *norm, ACTIVATIONS[architecture.activation]()]

    channels = [image.channels, *architecture.hidden]
    sizes = [(image.height, image.width)]
    trunk = []
    for before, after in pairwise(channels):
        trunk.append(nn.Sequential(*block(nn.Conv2d(before, after, 3, stride=2, padding=1), after)))
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    trunk[0].insert(0, Pictures(image))
    trunk[-1].append(nn.Flatten())
    width = channels[-1] * sizes[-1][0] * sizes[-1][1]
    code = nn.Linear(width, architecture.latent)

    decoder: list[nn.Module] = [nn.Linear(architecture.latent, width), ACTIVATIONS[architecture.activation]()]
    decoder.append(nn.Unflatten(1, (channels[-1], *sizes[-1])))
    for level in reversed(range(len(architecture.hidden))):
        # A kernel of 4 doubles a side, one of 3 makes it odd. 4 is a multiple of the stride, which spares even sides
        # the checkerboard of overlapping strides (Odena et al. 2016).
        height, width = (4 if side % 2 == 0 else 3 for side in sizes[level])
        layer = nn.ConvTranspose2d(channels[level + 1], channels[level], (height, width), stride=2, padding=1)
        decoder += block(layer, channels[level]) if level > 0 else [layer, Rows()]
    return nn.Sequential(*trunk), code, nn.Sequential(*decoder)
