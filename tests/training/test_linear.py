"""The linear autoencoder finds the principal components."""

from pathlib import Path

import pytest
import torch
from torch import Generator, nn

from training.data import load
from training.evaluate import principal_components_error
from training.networks import Architecture, build
from training.objectives import Linear

LATENT = 10
STEPS = 300
ARCHITECTURE = Architecture(hidden=(), latent=LATENT, output="linear")


def test_its_decoder_spans_the_space_of_the_principal_components(tmp_path: Path) -> None:
    digits = load("digits", tmp_path)
    train, test = digits.features[:1400], digits.features[1400:]
    network = build(digits.size, ARCHITECTURE, variational=False, range=digits.range, seed=0)
    network.standardise_by(train, one_scale=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        Linear().loss(network, train, Generator()).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        schedule.step()

    (layer,) = network.decoder
    assert isinstance(layer, nn.Linear)
    learnt = torch.linalg.qr(layer.weight.detach()).Q
    centred = train - train.mean(dim=0)
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -LATENT:]
    # The sine of an angle is exact where it is small, which the cosine is not.
    sines = torch.linalg.svdvals(learnt - components @ (components.T @ learnt))
    assert torch.asin(sines.max()).item() < 1e-2

    with torch.no_grad():
        error = (network.reconstruct(test) - test).square().mean().item()
    assert error == pytest.approx(principal_components_error(train, test, components=LATENT), rel=0.01)


def test_other_networks_are_no_linear_autoencoder() -> None:
    assert Linear().faults_with(ARCHITECTURE) == []
    for wrong in (
        Architecture(hidden=(8,), latent=2, output="linear"),
        Architecture(hidden=(), latent=2, output="sigmoid"),
        Architecture(hidden=(), latent=2, output="linear", code_activation="relu"),
        Architecture(hidden=(), latent=2, output="linear", top_k=1),
    ):
        assert "no hidden layer" in Linear().faults_with(wrong)[0]
