"""What became of the codes: units in use and units lost, sparsity, sensitivity, and whether anything was compressed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.calibration import Floats
from bundle.operations import Method
from training.export import Artefact
from training.networks import Autoencoder
from training.objectives.contractive import exact

__all__ = ["ACTIVE_VARIANCE", "Health", "divergences", "examine", "unexplained"]

ACTIVE_VARIANCE = 0.01
DEAD_SHARE = 1e-8  # of the largest variance: a ten-thousandth of its deviation
QUIET_SHARE = 0.01
ROWS = 2000
JACOBIAN_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Health:
    """Of k values of a code, over test rows.

    - `variances` (k): of each value; `active` counts those above 0.01 (Burda et al. 2016, section 5.2: for variational
      codes, whose unit is the prior's deviation), `dead` those that never vary next to the largest.
    - `divergences` (k): the mean KL divergence of each value from the prior, in nats; None without a prior.
    - `quiet`: the share of values whose magnitude is at most 1 % of the largest that their unit reaches.
    - `jacobian`: the mean squared Frobenius norm of d encode / d x, over 32 rows, in squared code units per input unit.
    - `unexplained`, `unexplained_shuffled`: the share of variance that reconstruction loses, for test rows and for rows
      whose every element comes from another test row: as each element is distributed, but in no order to be learnt.
    """

    size: int
    variances: tuple[float, ...]
    active: int
    dead: int
    divergences: tuple[float, ...] | None
    quiet: float
    jacobian: float
    unexplained: float
    unexplained_shuffled: float


def examine(artefact: Artefact, network: Autoencoder, *, test: Tensor, variational: bool, seed: int) -> Health:
    """The health of the exported program on the first 2,000 of the `test` rows (n, d). `network` is the one that was
    exported, which alone can be differentiated."""
    test = test[:ROWS]
    rows = test.numpy()
    (codes,) = artefact.run(Method.ENCODE, rows)
    variances = codes.astype(np.float64).var(axis=0)
    magnitudes = np.abs(codes)
    generator = np.random.default_rng(seed)
    shuffled = np.stack([generator.permutation(column) for column in rows.T], axis=1)
    # Elements have one unit in pictures, and each its own elsewhere: as the network itself has been told.
    scale = network.scale.numpy()
    return Health(
        size=codes.shape[1],
        variances=tuple(variances.tolist()),
        active=int((variances > ACTIVE_VARIANCE).sum()),
        dead=int((variances <= DEAD_SHARE * variances.max()).sum()),
        divergences=divergences(*artefact.run(Method.ENCODE_DISTRIBUTION, rows)) if variational else None,
        quiet=float((magnitudes <= QUIET_SHARE * magnitudes.max(axis=0)).mean()),
        jacobian=float(exact(network, test[:JACOBIAN_ROWS]).detach().mean()),
        unexplained=unexplained(rows / scale, artefact.run(Method.RECONSTRUCT, rows)[0] / scale),
        unexplained_shuffled=unexplained(shuffled / scale, artefact.run(Method.RECONSTRUCT, shuffled)[0] / scale),
    )


def divergences(mean: Floats, log_variance: Floats) -> tuple[float, ...]:
    """1/2 (mean_j^2 + exp(log_variance_j) - 1 - log_variance_j) for each value j, averaged over rows: arguments (n, k),
    k numbers in nats, whose sum is the divergence of the whole code."""
    m, v = torch.from_numpy(mean).double(), torch.from_numpy(log_variance).double()
    return tuple((0.5 * (m.square() + v.exp() - 1 - v)).mean(dim=0).tolist())


def unexplained(rows: npt.NDArray[np.floating], outputs: npt.NDArray[np.floating]) -> float:
    """||rows - outputs||^2 / ||rows - their mean||^2, of arrays (n, d): 0 is perfect, 1 no better than the mean."""
    spread = np.square(rows - rows.mean(axis=0), dtype=np.float64).sum()
    return float(np.square(rows - outputs, dtype=np.float64).sum() / max(spread, np.finfo(np.float32).tiny))
