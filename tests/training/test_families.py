"""Every family from a configuration to a bundle that reads back and answers as it was trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.operations import Family, Method, Operation
from bundle.read import Bundle, read_bundle
from training.config import Config, Fitting
from training.corruption import Corruption, Mixture
from training.errors import TrainingError
from training.export import Artefact, probe_rows
from training.networks import Architecture, build
from training.objectives import (
    Contractive,
    Denoising,
    KSparse,
    Linear,
    Objective,
    SparsePenalty,
    Vanilla,
    Variational,
)
from training.publish import Places, operations_of, publish

SIGMOID = Architecture(hidden=(), latent=6, code_activation="sigmoid")
NOISES = Mixture(
    corruptions=(Corruption(kind="masking", strength=0.2), Corruption(kind="salt_and_pepper", strength=0.1))
)
RUNS: dict[str, tuple[Family, Architecture, Objective]] = {
    "linear": (Family.LINEAR, Architecture(hidden=(), latent=4, output="linear"), Linear()),
    "overcomplete": (Family.VANILLA, Architecture(hidden=(80,), latent=70), Vanilla(error="cross_entropy")),
    "conv": (
        Family.DENOISING,
        Architecture(kind="conv", hidden=(4, 6), latent=5, layer_norm=True),
        Denoising(corruption=NOISES),
    ),
    "k-sparse": (Family.SPARSE, Architecture(hidden=(), latent=30, top_k=5), KSparse()),
    "penalty": (Family.SPARSE, SIGMOID, SparsePenalty(penalty="kl", weights=(0.1,), target=0.1)),
    "contractive": (Family.CONTRACTIVE, replace(SIGMOID, tied=True), Contractive(weight=1e-3)),
    "learnt spread": (
        Family.VARIATIONAL,
        Architecture(hidden=(12,), latent=3, learnt_spread=True),
        Variational(likelihood="gaussian", warm_up=0.5, free_bits=0.05),
    ),
}


def published(config: Config, places: Places, *, run: str) -> Bundle:
    _, architecture, objective = RUNS[run]
    config = replace(
        config, architecture=architecture, objective=objective, fitting=Fitting(epochs=1, batch_size=100, threads=1)
    )
    return read_bundle(publish(config, places, command="diabolo train tiny").path)


@pytest.mark.parametrize("run", RUNS)
def test_what_is_trained_is_published_and_answers(config: Config, places: Places, run: str) -> None:
    bundle = published(config, places, run=run)
    family, architecture, _ = RUNS[run]
    assert bundle.manifest.family is family
    assert bundle.manifest.operations == operations_of(family)
    assert bundle.golden.latents.shape == (16, architecture.latent)
    assert bundle.golden.replay(Artefact(bundle.files["model.pt"]).run) == 0
    if architecture.top_k is not None:
        assert ((bundle.golden.latents != 0).sum(axis=1) <= architecture.top_k).all()
    greys = run == "overcomplete"
    assert ("cross_entropy_floor" in bundle.manifest.metrics) == greys
    if greys:
        assert bundle.manifest.metrics["cross_entropy"] > bundle.manifest.metrics["cross_entropy_floor"] > 0


def test_figures_of_a_learnt_spread_agree_with_the_score_of_the_program(config: Config, places: Places) -> None:
    bundle = published(replace(config, score="negative_elbo"), places, run="learnt spread")
    assert bundle.calibration is not None
    # One figure has its codes drawn and one has them at their means, both of rows from one source.
    assert bundle.manifest.metrics["negative_elbo"] == pytest.approx(bundle.calibration.scores.mean(), abs=10)
    assert bundle.manifest.metrics["importance_weighted_bound"] < bundle.manifest.metrics["negative_elbo"]


@pytest.mark.parametrize("family", Family)
def test_every_family_offers_what_all_do_and_nothing_that_it_cannot(family: Family) -> None:
    everywhere = {"encode", "decode", "reconstruct", "anomaly_score", "interpolate"}
    special = {Family.DENOISING: {"denoise"}, Family.VARIATIONAL: {"sample"}}.get(family, set())
    assert {operation.value for operation in operations_of(family)} == everywhere | special
    assert list(operations_of(family)) == [op for op in Operation if op in operations_of(family)]


def test_probe_rows_keep_a_margin_between_the_kept_and_the_dropped() -> None:
    rows = torch.rand(64, 12, generator=torch.Generator().manual_seed(0))
    net = build(12, Architecture(hidden=(), latent=4, top_k=2), variational=False, range=(0.0, 1.0), seed=0)
    # Values 1 and 2 of a code have one magnitude: no margin where these are the second and the third largest.
    net.code.weight.data[1] = -net.code.weight.data[2]
    net.code.bias.data[1] = -net.code.bias.data[2]
    chosen = probe_rows(net, rows, count=8)
    clear = net.margin(rows) > 1e-3
    assert 0 < clear.sum() < 64
    assert np.array_equal(chosen, rows[clear][:8])


def test_codes_of_equal_values_cannot_be_probed() -> None:
    net = build(12, Architecture(hidden=(), latent=4, top_k=2), variational=False, range=(0.0, 1.0), seed=0)
    net.code.weight.data[:] = net.code.weight.data[0]
    net.code.bias.data[:] = 0.1
    with pytest.raises(TrainingError, match="tell the values of a code apart"):
        probe_rows(net, torch.rand(10, 12), count=8)


def test_a_convolution_s_program_draws_a_map(config: Config, places: Places) -> None:
    bundle = published(config, places, run="conv")
    artefact = Artefact(bundle.files["model.pt"])
    (maps,) = artefact.run(Method.ANOMALY_MAP, bundle.golden.inputs)
    (scores,) = artefact.run(Method.ANOMALY_SCORE, bundle.golden.inputs)
    np.testing.assert_allclose(maps.mean(axis=1), scores, rtol=1e-5)
