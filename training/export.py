"""Network -> TorchScript program. The only file of training that touches `torch.jit`."""

import io
import zipfile
from collections.abc import Collection
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bundle.calibration import Floats
from bundle.golden import Expected, Golden
from bundle.inspection.program import inspected
from bundle.operations import Method
from bundle.torchscript import silence_deprecation
from training.errors import ParityError, TrainingError
from training.networks import Autoencoder, VariationalAutoencoder
from training.scores import AnomalyScore, ReconstructionError
from training.units import Units

__all__ = ["TOLERANCE", "Artefact", "Exported", "Program", "check_parity", "export", "golden_probe", "probe_rows"]

TOLERANCE = 1e-5
BATCH_ROWS = 1024
GIVE_ROWS = (Method.DECODE, Method.RECONSTRUCT, Method.DENOISE)
MARGIN = 1e-3  # ten times what devices may differ by


class Program(nn.Module):
    """Every method that a bundle can export, under its name: all row-wise, float32 in and out, none of them drawing.

    With `units` rows come and go in input units, while the network and the score work in those; so does `anomaly_map`.
    """

    def __init__(self, network: Autoencoder, score: AnomalyScore, *, units: Units | None = None) -> None:
        super().__init__()
        self.network = network
        self.score = score
        self.units = units
        self.eval().requires_grad_(False)

    def encode(self, x: Tensor) -> Tensor:
        return self.network.encode(self._inward(x))

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(self.network, VariationalAutoencoder):
            raise TypeError("only a variational network encodes distributions")
        return self.network.encode_distribution(self._inward(x))

    def decode(self, z: Tensor) -> Tensor:
        return self._outward(self.network.decode(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._outward(self.network.reconstruct(self._inward(x)))

    def denoise(self, x: Tensor) -> Tensor:
        return self._outward(self.network.reconstruct(self._inward(x)))

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.score(self._inward(x))
        return scores

    def anomaly_map(self, x: Tensor) -> Tensor:
        if not isinstance(self.score, ReconstructionError):
            raise TypeError("only an additive score has a map")
        return self.score.anomaly_map(self._inward(x))

    def margin(self, x: Tensor) -> Tensor:
        """See Autoencoder.margin; x (n, d) is in input units."""
        return self.network.margin(self._inward(x))

    def _inward(self, x: Tensor) -> Tensor:
        return x if self.units is None else self.units.inward(x)

    def _outward(self, x: Tensor) -> Tensor:
        return x if self.units is None else self.units.outward(x)


class Exported(Protocol):
    """An exported program, opened by some runtime."""

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What `method` returns for rows (n, d), or codes (n, k): one array, two for `encode_distribution`."""
        ...


class Artefact:
    """An exported program as anyone else would open it: from its bytes, inspected. With `units` rows come and go in
    those. Raises ProgramForbidden for what the service would not load."""

    def __init__(self, content: bytes, *, units: Units | None = None) -> None:
        self._units = units
        silence_deprecation()
        self._program = torch.jit.load(io.BytesIO(inspected(content)), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What `method` returns for rows (n, d), or codes (n, k): one array, two for `encode_distribution`."""
        function = getattr(self._program, method.value)
        given = torch.from_numpy(np.ascontiguousarray(rows))
        if self._units is not None and not method.takes_latents:
            given = self._units.outward(given)
        batches = torch.split(given, BATCH_ROWS)
        with torch.no_grad():
            answers = [answer if isinstance(answer, tuple) else (answer,) for answer in map(function, batches)]
        outputs = [torch.cat(parts) for parts in zip(*answers, strict=True)]
        if self._units is not None and method in GIVE_ROWS:
            outputs = [self._units.inward(rows) for rows in outputs]
        return tuple(output.numpy() for output in outputs)


def export(program: Program, methods: Collection[Method], *, rows: Tensor) -> bytes:
    """The bytes of model.pt with `methods`, traced on `rows` (n, d). They name no path of this machine."""
    silence_deprecation()
    latents = program.encode(rows)
    examples = {method.value: latents if method.takes_latents else rows for method in sorted(methods)}
    # check_parity looks closer than a check of the trace would.
    traced = torch.jit.trace_module(program, examples, check_trace=False)  # type: ignore[no-untyped-call]  # torch's own
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    return _without_source_paths(buffer.getvalue())


def check_parity(
    artefact: Exported,
    program: Program,
    methods: Collection[Method],
    *,
    rows: Tensor,
    rtol: float = TOLERANCE,
    atol: float = TOLERANCE,
) -> float:
    """The largest error of the exported program against `program` itself, for one of `rows` (n, d) and for all.

    Raises ParityError where it is beyond `rtol` and `atol`, relative and absolute; of rows in input units absolute
    counts in the size of the largest feature.
    """
    largest = 0.0
    for x in (rows[:1], rows):
        for method in sorted(methods):
            given = program.encode(x) if method.takes_latents else x
            wanted = getattr(program, method.value)(given)
            outputs = artefact.run(method, given.numpy())
            for actual, expected in zip(outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                error = float(np.abs(actual - expected.numpy()).max())
                allowed = atol * _magnitude(program, method)
                if not np.allclose(actual, expected.numpy(), rtol=rtol, atol=allowed):
                    raise ParityError(
                        f"the exported {method.value} is off the network's by {error:.3g} for {len(x)} rows"
                    )
                largest = max(largest, error)
    return largest


def probe_rows(network: Autoencoder, rows: Tensor, *, count: int) -> Tensor:
    """The first `count` of `rows` (n, d), of the first 1,024, at which no rounding changes which values of a code are
    kept: other runtimes must give the same code. Raises TrainingError when there is none."""
    with torch.no_grad():
        clear = network.margin(rows[:BATCH_ROWS]) > MARGIN
    if not clear.any():
        raise TrainingError("top_k cannot tell the values of a code apart in any row; the code holds equal values")
    return rows[:BATCH_ROWS][clear][:count]


def golden_probe(artefact: Artefact, methods: Collection[Method], *, rows: Floats, program: Program) -> Golden:
    """The golden probe of `rows` (n, d), in input units: their codes, and what the exported `program` makes of both."""
    (latents,) = artefact.run(Method.ENCODE, rows)
    answers = {method: artefact.run(method, latents if method.takes_latents else rows) for method in sorted(methods)}
    atol = {method: Expected.atol * _magnitude(program, method) for method in methods}
    return Golden(rows, latents, {method: Expected(outputs, atol=atol[method]) for method, outputs in answers.items()})


def _magnitude(program: Program, method: Method) -> float:
    """What an absolute tolerance of a method's outputs is multiplied by: float32 rounds in proportion."""
    return program.units.magnitude if program.units is not None and method in GIVE_ROWS else 1.0


def _without_source_paths(program: bytes) -> bytes:
    """The same program without the debug entries, in which torch notes where on this machine each operation was
    written. Nothing but error messages reads them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
    return buffer.getvalue()
