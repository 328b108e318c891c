"""How far what comes out is from what should: the part that every deterministic objective shares."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

from training.networks import Autoencoder

__all__ = ["ERRORS", "Error", "error_faults", "reconstruction_loss"]

Error = Literal["squared", "cross_entropy"]
ERRORS = ("squared", "cross_entropy")


def reconstruction_loss(network: Autoencoder, z: Tensor, target: Tensor, *, error: Error) -> Tensor:
    """A scalar: the mean over rows and elements of the error of decode(z), codes z (n, k), against `target` (n, d).

    `squared`: (y - x)^2, in squared input units. `cross_entropy`: -x log y - (1 - x) log(1 - y), in nats, of grey
    values taken for probabilities (Vincent et al. 2010, JMLR 11, section 2.2), which a sigmoid output must give.
    """
    logits = network.logits(z)
    if error == "cross_entropy":
        return (functional.softplus(logits) - target * logits).mean()
    return (network.output(logits) - target).square().mean()


def error_faults(error: str) -> list[str]:
    """What is wrong with the name of an error, in words; empty when nothing is."""
    return [] if error in ERRORS else [f"no error is called {error!r}; there are {' and '.join(ERRORS)}"]
