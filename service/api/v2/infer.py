"""What the outputs of the Open Inference Protocol mean here: each is a part of an operation's answer."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy.typing as npt

from bundle.calibration import Floats
from bundle.manifest import Manifest
from bundle.operations import Operation
from service import operations
from service.api.v2.schemas import InferRequest, Parameters, TensorMetadata
from service.api.v2.tensors import INPUT, Output
from service.engine.loaded import LoadedModel
from service.errors import Fault, InvalidContent, OperationNotSupported

__all__ = ["Wanted", "inputs_of", "outputs_of", "run", "wanted"]

SCORES = ("score", "p_value", "is_anomaly", "anomaly_map")
OUTPUTS: Mapping[str, Operation] = {
    "reconstruction": Operation.RECONSTRUCT,
    "latent": Operation.ENCODE,
    "denoised": Operation.DENOISE,
    **dict.fromkeys(SCORES, Operation.ANOMALY_SCORE),
}
DEFAULTS: Mapping[Operation, tuple[str, ...]] = {
    Operation.RECONSTRUCT: ("reconstruction",),
    Operation.ENCODE: ("latent",),
    Operation.DENOISE: ("denoised",),
    Operation.ANOMALY_SCORE: ("score", "p_value", "is_anomaly"),
}


class Wanted(NamedTuple):
    """The names of the outputs that a request asks for, in order, each with whether it goes after the JSON; and the
    policy for verdicts."""

    outputs: tuple[tuple[str, bool], ...]
    alpha: float | None
    threshold: float | None


def inputs_of(manifest: Manifest) -> list[TensorMetadata]:
    """The tensors that a bundle takes."""
    return [TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, manifest.input.size])]


def outputs_of(manifest: Manifest) -> list[TensorMetadata]:
    """The tensors that a bundle can give."""
    rows = [-1, manifest.input.size]
    all_of_them = {
        "reconstruction": TensorMetadata(name="reconstruction", datatype="FP32", shape=rows),
        "latent": TensorMetadata(name="latent", datatype="FP32", shape=[-1, manifest.latent.size]),
        "denoised": TensorMetadata(name="denoised", datatype="FP32", shape=rows),
        "score": TensorMetadata(name="score", datatype="FP32", shape=[-1]),
        "p_value": TensorMetadata(name="p_value", datatype="FP64", shape=[-1]),
        "is_anomaly": TensorMetadata(name="is_anomaly", datatype="BOOL", shape=[-1]),
        "anomaly_map": TensorMetadata(name="anomaly_map", datatype="FP32", shape=rows),
    }
    return [all_of_them[name] for name in _possible(manifest)]


def _possible(manifest: Manifest) -> tuple[str, ...]:
    """The names of the outputs that a bundle can give."""
    return _outputs(manifest.operations, additive=manifest.score.additive, calibrated=manifest.calibration is not None)


@lru_cache(maxsize=64)
def _outputs(operations: tuple[Operation, ...], *, additive: bool, calibrated: bool) -> tuple[str, ...]:
    missing: tuple[str, ...] = () if additive else ("anomaly_map",)
    missing += () if calibrated else ("p_value", "is_anomaly")
    return tuple(name for name, operation in OUTPUTS.items() if operation in operations and name not in missing)


def wanted(request: InferRequest, manifest: Manifest) -> Wanted:
    """What the request asks of this bundle.

    Raises InvalidContent for names that mean nothing, OperationNotSupported for what this bundle cannot give.
    """
    for field, said, true in (
        ("model_name", request.model_name, manifest.name),
        ("model_version", request.model_version, str(manifest.version)),
    ):
        if said is not None and said != true:
            raise _invalid(f"the path leads to {true}; leave {field} out, or say the same", field)
    parameters = request.parameters
    possible = _possible(manifest)
    operation = parameters.get("operation", Operation.RECONSTRUCT.value)
    if operation not in list(DEFAULTS):
        raise _invalid(
            f"the operation must be one of {', '.join(DEFAULTS)}; /v1 has the others", "parameters/operation"
        )
    if request.outputs is None:
        named = [(name, parameters) for name in DEFAULTS[Operation(operation)]]
        if OUTPUTS[named[0][0]] in manifest.operations and manifest.calibration is None:
            named = [(name, own) for name, own in named if name in possible]  # an uncalibrated bundle gives raw scores
    else:
        named = [(output.name, output.parameters) for output in request.outputs]
    for index, (name, _) in enumerate(named):
        if name not in OUTPUTS:
            raise _invalid(
                f"no output is called {name[:40]!r}; there are {', '.join(possible)}", f"outputs/{index}/name"
            )
        if name not in possible:
            raise OperationNotSupported(
                f"{manifest.name}/{manifest.version} has no output {name!r}; it has {', '.join(possible)}"
            )
    if len({name for name, _ in named}) < len(named):
        raise _invalid("each output can be asked for once", "outputs")
    default = _flag(parameters, "binary_data_output", "parameters") or False
    outputs = []
    for index, (name, own) in enumerate(named):
        # Only where the output itself says so does it differ from the default (kserve issue 5907).
        binary = None if request.outputs is None else _flag(own, "binary_data", f"outputs/{index}/parameters")
        outputs.append((name, default if binary is None else binary))
    alpha, threshold = _number(parameters, "alpha"), _number(parameters, "threshold")
    if alpha is not None and threshold is not None:
        raise _invalid("give alpha or threshold, not both", "parameters/threshold")
    if alpha is not None and not 0 < alpha < 1:
        raise _invalid("alpha lies between 0 and 1", "parameters/alpha")
    return Wanted(tuple(outputs), alpha, threshold)


async def run(model: LoadedModel, rows: Floats, asked: Wanted) -> list[Output]:
    """The outputs that are asked for, and nothing else computed. Raises what the operations raise."""
    names = [name for name, _ in asked.outputs]
    found: dict[str, npt.NDArray[Any]] = {}
    if "reconstruction" in names:
        found["reconstruction"] = (await operations.reconstruct(model, rows)).outputs
    if "latent" in names:
        found["latent"] = (await operations.encode(model, rows)).latents
    if "denoised" in names:
        found["denoised"] = await operations.denoise(model, rows)
    if {"anomaly_map"} == set(names) & set(SCORES):
        found["anomaly_map"] = await operations.anomaly_maps(model, rows)
    elif set(names) & set(SCORES):
        scored = await operations.anomaly_score(
            model, rows, alpha=asked.alpha, threshold=asked.threshold, maps="anomaly_map" in names
        )
        parts = zip(SCORES, (scored.scores, scored.p_values, scored.is_anomaly, scored.maps), strict=True)
        found |= {name: values for name, values in parts if values is not None}
    return [Output(name, found[name], binary) for name, binary in asked.outputs]


def _flag(parameters: Parameters, name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise _invalid(f"{name} is true or false", f"{where}/{name}")
    return value


def _number(parameters: Parameters, name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, bool | str) or not abs(value) <= operations.MAX_FLOAT32:
        raise _invalid(f"{name} is a number", f"parameters/{name}")
    return float(value)


def _invalid(detail: str, where: str) -> InvalidContent:
    return InvalidContent(detail, faults=[Fault(detail, f"#/{where}")])
