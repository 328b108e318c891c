"""ONNX: graphs that compute what the network computes, share their weights, and leave no trace of this machine."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx as onnx_format
import pytest
import torch
from torch import Generator, Tensor

from bundle.calibration import Calibration, Floats
from bundle.golden import Golden
from bundle.manifest import ImageSpec
from bundle.operations import Method
from bundle.read import read_bundle
from training import onnx as module
from training.config import Config
from training.errors import ParityError
from training.export import Artefact, Program, check_parity, export, golden_probe, probe_rows
from training.moments import moments
from training.networks import Architecture, Autoencoder, VariationalAutoencoder, build
from training.objectives import Variational
from training.onnx import OnnxArtefact, check_p_values, export_onnx, onnx_files
from training.publish import Places, publish
from training.scores import (
    AnomalyScore,
    Mahalanobis,
    MahalanobisResidual,
    NegativeElbo,
    RappNap,
    RappSap,
    ReconstructionError,
)
from training.units import Powers, StandardDeviations, Units

IMAGE = ImageSpec(height=3, width=4, channels=1)
ROWS = torch.sigmoid(
    torch.randn(300, 3, generator=Generator().manual_seed(1)) @ torch.randn(3, 12, generator=Generator().manual_seed(2))
    + 0.1 * torch.randn(300, 12, generator=Generator().manual_seed(3))
)


class Case(NamedTuple):
    """A network, its score and its units: between them, the cases have every part that a program can have."""

    score: Callable[[Autoencoder], AnomalyScore]
    architecture: dict[str, Any]
    variational: bool = False
    units: Units | None = None


def elbo(**options: Any) -> Callable[[Autoencoder], AnomalyScore]:
    def score(network: Autoencoder) -> AnomalyScore:
        assert isinstance(network, VariationalAutoencoder)
        return NegativeElbo(network, Variational(**options))

    return score


THOUSANDS = StandardDeviations(moments(ROWS * torch.linspace(0.1, 1e3, 12) + torch.linspace(-5, 1e4, 12)))
CASES = {
    "linear": Case(ReconstructionError, {"hidden": (), "output": "linear"}, units=THOUSANDS),
    "bernoulli": Case(elbo(), {"activation": "silu", "layer_norm": True}, variational=True),
    "learnt spread": Case(
        elbo(likelihood="gaussian"), {"learnt_spread": True, "output": "linear"}, variational=True, units=THOUSANDS
    ),
    "tied": Case(Mahalanobis, {"tied": True, "code_activation": "sigmoid"}),
    "unit columns": Case(ReconstructionError, {"unit_columns": True, "activation": "tanh"}),
    "top-k": Case(RappNap, {"top_k": 2}, units=Powers(0.5, range=(0.0, 2.0))),
    "convolutions": Case(RappSap, {"kind": "conv", "hidden": (4, 6), "layer_norm": True}),
    "variational convolutions": Case(MahalanobisResidual, {"kind": "conv", "hidden": (4,)}, variational=True),
}


class Average(AnomalyScore):
    """The mean of a row: an operation of the same name as something that an artefact gives."""

    kind = "mahalanobis"

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        return 1 - x.mean(dim=1)


class Made(NamedTuple):
    """A program, its graphs, and rows at which no rounding decides, in input units."""

    program: Program
    methods: list[Method]
    files: dict[str, bytes]
    rows: Tensor


def program_of(case: Case, *, seed: int = 0) -> Program:
    parts: dict[str, Any] = {"hidden": (8,), "latent": 4}
    architecture = Architecture(**parts | case.architecture)
    network = build(12, architecture, variational=case.variational, range=(0.0, 1.0), seed=seed, image=IMAGE)
    network.standardise_by(ROWS, one_scale=False)
    score = case.score(network)
    score.fit(ROWS)
    return Program(network, score, units=case.units)


def made(case: Case) -> Made:
    program = program_of(case)
    absent = {Method.ENCODE_DISTRIBUTION: case.variational, Method.ANOMALY_MAP: program.score.additive}
    methods = [method for method in Method if absent.get(method, True)]
    rows = probe_rows(program.network, ROWS, count=200)
    outward = rows if case.units is None else case.units.outward(rows)
    return Made(program, methods, export_onnx(program, methods), outward)


@pytest.fixture(scope="module")
def plain() -> Made:
    return made(CASES["unit columns"])


@pytest.mark.parametrize("name", CASES)
def test_every_part_of_a_network_computes_what_it_computes_in_torch(name: str) -> None:
    program, methods, files, rows = made(CASES[name])
    exported = OnnxArtefact(files)
    assert check_parity(exported, program, methods, rows=rows, rtol=1e-4) >= 0
    for n in (1, 2, 17):
        for method in methods:
            given = program.encode(rows[:n]) if method.takes_latents else rows[:n]
            shapes = method.output_shapes(n, size=12, latent_size=4)
            outputs = exported.run(method, given.numpy())
            assert [(output.shape, output.dtype.name) for output in outputs] == [(shape, "float32") for shape in shapes]
    assert not any(word in content for content in files.values() for word in (b".py", b"site-packages", b"Tensor("))


def test_what_operations_are_called_inside_makes_no_difference() -> None:
    program, methods, files, rows = made(Case(Average, {}, variational=True))
    assert check_parity(OnnxArtefact(files), program, methods, rows=rows, rtol=1e-4) >= 0


def test_equal_networks_give_equal_bytes(plain: Made) -> None:
    assert made(CASES["unit columns"]).files == plain.files


def test_graphs_share_their_weights_which_lie_once_and_aligned_in_one_file(plain: Made) -> None:
    places: dict[tuple[int, int], bytes] = {}
    for name in sorted(set(plain.files) - {"weights.bin"}):
        graph = onnx_format.load_from_string(plain.files[name]).graph
        assert graph.name == name.removesuffix(".onnx")
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the number of rows is free"
        for tensor in graph.initializer:
            if len(tensor.dims) == 0 or tensor.data_type != onnx_format.TensorProto.FLOAT:
                assert not tensor.external_data, tensor.name
                continue
            where = {entry.key: entry.value for entry in tensor.external_data}
            assert where.pop("location") == "weights.bin"
            offset, length = int(where["offset"]), int(where["length"])
            assert offset % 64 == 0
            assert length == 4 * np.prod(tensor.dims)
            places[offset, length] = plain.files["weights.bin"][offset : offset + length]
    assert len(set(places.values())) == len(places) > 4
    assert len(plain.files["weights.bin"]) < sum(length + 64 for _, length in places)


@pytest.mark.parametrize("method", [Method.ENCODE, Method.DECODE, Method.ANOMALY_SCORE])
def test_graphs_of_other_weights_are_found(plain: Made, method: Method) -> None:
    other = program_of(CASES["unit columns"], seed=1)
    with pytest.raises(ParityError, match=f"exported {method} is off"):
        check_parity(OnnxArtefact(plain.files), other, [method], rows=plain.rows, rtol=1e-4)


class Scores:
    """An exported program that knows scores alone: those of a row are its own value."""

    def __init__(self, shift: float = 0) -> None:
        self._shift = shift

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        assert method is Method.ANOMALY_SCORE
        return ((rows[:, 0] + np.float32(self._shift)).astype(np.float32),)


@pytest.mark.parametrize("shift", [2, -2])
def test_p_values_may_differ_by_two_ranks_and_no_more(shift: float) -> None:
    calibration = Calibration.fit(np.arange(1000, dtype=np.float32))
    rows = np.arange(0.5, 1000, 5, dtype=np.float32)[:, None]
    check_p_values(Scores(shift), Scores(), calibration, rows=rows)
    with pytest.raises(ParityError, match=r"^p-values are off by 3/1001, beyond 2/1001$"):
        check_p_values(Scores(1.5 * shift), Scores(), calibration, rows=rows)


class Proof(NamedTuple):
    """What the graphs are held against."""

    artefact: Artefact
    golden: Golden
    calibration: Calibration


@pytest.fixture(scope="module")
def proof(plain: Made) -> Proof:
    artefact = Artefact(export(plain.program, plain.methods, rows=plain.rows))
    golden = golden_probe(artefact, plain.methods, rows=plain.rows[:16].numpy(), program=plain.program)
    return Proof(artefact, golden, Calibration.fit(artefact.run(Method.ANOMALY_SCORE, plain.rows.numpy())[0]))


@pytest.fixture
def log(plain: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged of warnings; what would be exported is there already."""
    monkeypatch.setattr(module, "export_onnx", lambda *_: plain.files)
    caplog.set_level(logging.WARNING)
    return caplog


def test_graphs_that_answer_as_the_first_runtime_does_are_published(
    plain: Made, proof: Proof, log: pytest.LogCaptureFixture
) -> None:
    files = onnx_files(
        plain.program,
        plain.methods,
        rows=plain.rows,
        artefact=proof.artefact,
        calibration=proof.calibration,
        golden=proof.golden,
    )
    assert files == plain.files
    assert log.records == []


@pytest.mark.parametrize("spoilt", ["golden", "p-values"])
def test_graphs_that_answer_otherwise_are_left_out_with_a_line_in_the_log(
    plain: Made, proof: Proof, spoilt: str, log: pytest.LogCaptureFixture
) -> None:
    golden, artefact = proof.golden, proof.artefact
    other = program_of(CASES["unit columns"], seed=1)
    off = Artefact(export(other, plain.methods, rows=plain.rows))
    if spoilt == "golden":
        golden = golden_probe(off, plain.methods, rows=plain.rows[:16].numpy(), program=other)
    else:
        artefact = off
    files = onnx_files(
        plain.program,
        plain.methods,
        rows=plain.rows,
        artefact=artefact,
        calibration=proof.calibration,
        golden=golden,
    )
    assert files == {}
    (message,) = log.messages
    assert message.startswith("published without ONNX, whose runtime answers otherwise here: ")
    assert ("golden probe" if spoilt == "golden" else "p-values are off by") in message


@pytest.mark.usefixtures("onnx")
def test_a_bundle_has_a_second_artefact_that_answers_as_the_first(config: Config, places: Places) -> None:
    bundle = read_bundle(publish(config, places, command="").path)
    graphs = {*(f"{method}.onnx" for method in bundle.manifest.methods), "weights.bin"}
    assert set(bundle.manifest.artefacts["onnx"]) == graphs <= set(bundle.files)
    exported = OnnxArtefact(bundle.files)
    assert bundle.golden.replay(exported.run) < 1e-4
    assert bundle.calibration is not None
    check_p_values(exported, Artefact(bundle.files["model.pt"]), bundle.calibration, rows=bundle.golden.inputs)
    assert {"onnxruntime", "onnxscript"} <= set(bundle.manifest.provenance.packages)
    paths = (str(Path(__file__).parents[2]).encode(), str(Path(torch.__file__).parent).encode())
    assert not any(path in bundle.files[name] for name in graphs for path in paths)
