"""The exported program: that of the network, whole, deterministic, and without a trace of this machine."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.operations import Method
from bundle.torchscript import silence_deprecation
from training.errors import ParityError
from training.export import Artefact, Program, check_parity, export, golden_probe
from training.networks import Architecture, VariationalAutoencoder, build
from training.objectives import Variational
from training.scores import NegativeElbo, ReconstructionError

ARCHITECTURE = Architecture(hidden=(8,), latent=2, layer_norm=True)
METHODS = tuple(Method)


@pytest.fixture
def program(rows: Tensor) -> Program:
    """Every method there is, over a network with every part that it can have."""
    network = build(12, ARCHITECTURE, variational=True, range=(0.0, 1.0), seed=0)
    network.standardise_by(rows, one_scale=False)
    return Program(network, ReconstructionError(network))


@pytest.fixture
def content(program: Program, rows: Tensor) -> bytes:
    return export(program, METHODS, rows=rows[:16])


@pytest.mark.parametrize("n", [0, 1, 2, 17, 200])
@pytest.mark.parametrize("method", METHODS)
def test_the_program_computes_what_the_network_computes(
    program: Program, content: bytes, rows: Tensor, method: Method, n: int
) -> None:
    given = program.encode(rows[:n]) if method.takes_latents else rows[:n]
    wanted = getattr(program, method)(given)
    outputs = Artefact(content).run(method, given.numpy())
    for actual, expected in zip(outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_parity_holds_for_one_row_and_for_many(program: Program, content: bytes, rows: Tensor) -> None:
    assert check_parity(Artefact(content), program, METHODS, rows=rows) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_program_of_other_weights_fails_the_run(content: bytes, rows: Tensor, method: Method) -> None:
    other = build(12, ARCHITECTURE, variational=True, range=(0.0, 1.0), seed=1)
    with pytest.raises(ParityError, match=f"exported {method} is off"):
        check_parity(Artefact(content), Program(other, ReconstructionError(other)), [method], rows=rows)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_score_that_does_not_add_up_has_no_map(rows: Tensor, likelihood: Literal["bernoulli", "gaussian"]) -> None:
    network = build(12, ARCHITECTURE, variational=True, range=(0.0, 1.0), seed=0)
    assert isinstance(network, VariationalAutoencoder)
    program = Program(network, NegativeElbo(network, Variational(likelihood=likelihood)))
    with pytest.raises(TypeError, match="additive"):
        program.anomaly_map(rows)
    content = export(program, [Method.ENCODE, Method.ANOMALY_SCORE], rows=rows)
    np.testing.assert_allclose(
        Artefact(content).run(Method.ANOMALY_SCORE, rows.numpy())[0], program.score(rows), rtol=1e-5
    )


def test_a_plain_network_encodes_no_distribution(rows: Tensor) -> None:
    network = build(12, ARCHITECTURE, variational=False, range=(0.0, 1.0), seed=0)
    with pytest.raises(TypeError, match="variational"):
        Program(network, ReconstructionError(network)).encode_distribution(rows)


def test_only_the_methods_asked_for_are_exported(program: Program, rows: Tensor) -> None:
    artefact = Artefact(export(program, [Method.ENCODE], rows=rows))
    with pytest.raises(AttributeError):
        artefact.run(Method.DENOISE, rows.numpy())


def test_the_program_survives_freezing_and_optimisation(content: bytes, rows: Tensor, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    silence_deprecation()
    loaded = torch.jit.load(tmp_path / "model.pt").eval()  # type: ignore[no-untyped-call]  # torch's own
    names = [method.value for method in METHODS]
    frozen = torch.jit.freeze(loaded, preserved_attrs=names)
    optimised = torch.jit.optimize_for_inference(frozen, other_methods=names)
    (wanted,) = Artefact(content).run(Method.RECONSTRUCT, rows.numpy())
    np.testing.assert_allclose(optimised.reconstruct(rows), wanted, rtol=1e-5, atol=1e-6)


def test_the_program_names_no_path_of_this_machine(content: bytes) -> None:
    assert str(Path(__file__).parents[2]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_the_program_draws_nothing(content: bytes, rows: Tensor) -> None:
    state = torch.get_rng_state()
    artefact = Artefact(content)
    for method in METHODS:
        given = rows[:, :2].numpy() if method.takes_latents else rows.numpy()
        first, again = artefact.run(method, given), artefact.run(method, given)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_probe_is_what_the_program_answers(content: bytes, program: Program, rows: Tensor) -> None:
    artefact = Artefact(content)
    golden = golden_probe(artefact, METHODS, rows=rows[:16].numpy(), program=program)
    assert set(golden.expected) == set(METHODS)
    assert golden.replay(artefact.run) == 0
    assert np.array_equal(golden.latents, artefact.run(Method.ENCODE, rows[:16].numpy())[0])
