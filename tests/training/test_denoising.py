"""What a trained denoising autoencoder is worth: it beats what needs no training."""

from pathlib import Path

import torch
from scipy.ndimage import median_filter
from torch import Generator, Tensor

from training.config import Fitting
from training.corruption import Corruption
from training.data import load
from training.fit import fit
from training.networks import Architecture, build
from training.objectives import Denoising


def projected(rows: Tensor, *, onto: Tensor, components: int) -> Tensor:
    """`rows` (m, d) on the leading principal components of `onto` (n, d)."""
    mean = onto.mean(dim=0)
    basis = torch.linalg.svd(onto - mean, full_matrices=False).Vh[:components]
    outputs: Tensor = (rows - mean) @ basis.T @ basis + mean
    return outputs


def test_it_beats_the_identity_a_median_filter_and_every_projection_on_principal_components(tmp_path: Path) -> None:
    digits = load("digits", Path("nowhere")).features[:]
    train, validation, clean = digits[:1200], digits[1200:1300], digits[1300:]
    noise = Corruption(kind="gaussian", strength=0.25)
    network = build(
        64, Architecture(hidden=(256,), latent=64, activation="silu"), variational=False, range=(0.0, 1.0), seed=0
    )
    network.standardise_by(train, one_scale=True)
    fit(
        network,
        Denoising(corruption=noise),
        settings=Fitting(epochs=40, batch_size=50, learning_rate=2e-3, threads=1),
        train=train,
        validation=validation,
        seed=0,
        folder=tmp_path,
    )
    noisy = noise(clean, Generator().manual_seed(1), bounds=(0.0, 1.0))
    with torch.no_grad():
        error = (network.reconstruct(noisy) - clean).square().mean()
    median = torch.from_numpy(median_filter(noisy.reshape(-1, 8, 8).numpy(), size=(1, 3, 3))).reshape(-1, 64)
    # The filters may take the strength that is best on these very rows; the network may not.
    projections = [
        (projected(noisy, onto=train, components=k).clamp(0, 1) - clean).square().mean() for k in range(1, 65)
    ]
    assert error < (noisy - clean).square().mean()
    assert error < (median - clean).square().mean()
    assert error < min(projections)
