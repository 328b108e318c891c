"""What a bundle must answer: what its program gives without the service, and what follows from that by definition."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import orjson

from benchmarks.reliability.direct import direct
from benchmarks.reliability.question import Arrays, Expected, Values
from bundle.calibration import Calibration, Floats
from bundle.operations import Method, Operation
from bundle.read import Bundle

__all__ = ["BESIDE", "MAIN", "array_from", "arrays_from_fields", "expected_of"]

MAIN = {
    Operation.ENCODE: "latents",
    Operation.DECODE: "outputs",
    Operation.RECONSTRUCT: "outputs",
    Operation.DENOISE: "outputs",
    Operation.ANOMALY_SCORE: "scores",
}
BESIDE = ("errors", "p_values", "is_anomaly", "threshold")
EXACT, SCALARS = {"p_values", "is_anomaly"}, {"threshold"}
DEFAULT_ALPHA = 0.01


def expected_of(bundle: Bundle, operation: Operation, rows: Floats) -> Expected:
    """Every array of the answer to these rows, the main one first.

    Errors, p-values and verdicts are those that follow from the outputs or scores of the same answer, which may miss
    the program's own by a tolerance: else a score right beside one of the calibration would be a matter of luck.
    """
    expected: dict[str, Values] = {MAIN[operation]: direct(bundle, Method(operation.value), rows)}
    if operation is Operation.RECONSTRUCT:
        expected["errors"] = partial(_errors, rows)
    if operation is Operation.ANOMALY_SCORE and bundle.calibration is not None:
        alpha = max(DEFAULT_ALPHA, bundle.calibration.smallest_p_value)
        expected["p_values"] = partial(_p_values, bundle.calibration)
        expected["is_anomaly"] = partial(_is_anomaly, bundle.calibration, alpha)
        expected["threshold"] = np.asarray(bundle.calibration.threshold(alpha))
    return expected


def array_from(name: str, values: object) -> np.ndarray:
    """The array of this name from its JSON: float32, or whatever it is. Raises ValueError or TypeError."""
    return np.asarray(values, dtype=None if name in EXACT else np.float32)


def arrays_from_fields(fields: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What stands beside the main array in `Diabolo-*` fields, which have room for 64 values. Raises ValueError."""
    found = {}
    for name in BESIDE:
        if text := fields.get(f"diabolo-{name.replace('_', '-')}"):
            found[name] = array_from(name, orjson.loads(text if name in SCALARS else f"[{text}]"))
    return found


def _errors(rows: Floats, arrays: Arrays) -> np.ndarray:
    outputs = arrays["outputs"]
    errors: np.ndarray = np.square(rows[: len(outputs)] - outputs).mean(axis=1)
    return errors


def _p_values(calibration: Calibration, arrays: Arrays) -> np.ndarray:
    return calibration.p_values(arrays["scores"])


def _is_anomaly(calibration: Calibration, alpha: float, arrays: Arrays) -> np.ndarray:
    return calibration.p_values(arrays["scores"]) <= alpha
