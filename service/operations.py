"""The operations on arrays, once: every protocol is a thin adapter over these functions.

Rows are float32: inputs (n, d), codes (n, k). What reaches these functions has been checked for shape and finiteness.
"""

import secrets
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.calibration import Calibration, Floats
from bundle.operations import Method, Operation
from service.engine.loaded import LoadedModel
from service.errors import Fault, InvalidContent, NotCalibrated, OperationNotSupported

__all__ = [
    "DEFAULT_ALPHA",
    "MAX_FLOAT32",
    "MAX_SEED",
    "Codes",
    "Interpolated",
    "InterpolationMethod",
    "Policy",
    "Reconstructed",
    "Sampled",
    "Scored",
    "anomaly_maps",
    "anomaly_score",
    "decode",
    "denoise",
    "draw_codes",
    "encode",
    "interpolate",
    "path_between",
    "range_warning",
    "reconstruct",
    "sample",
]

DEFAULT_ALPHA = 0.01
# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
MAX_SEED = 2**53 - 1
MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Codes(NamedTuple):
    """Codes (n, k), for variational bundles the mean codes; log-variances (n, k) where asked for."""

    latents: Floats
    log_variances: Floats | None


class Reconstructed(NamedTuple):
    """Reconstructions (n, d) and the mean squared error of each row (n,), in squared input units."""

    outputs: Floats
    errors: Floats


class Policy(NamedTuple):
    """By what a row counts as anomalous: `kind` is "alpha" (p <= alpha), "threshold" (score > threshold) or "none"."""

    kind: str
    alpha: float | None


class Scored(NamedTuple):
    """Scores (n,), higher is more anomalous. P-values (n,) and verdicts (n,) are None where nothing defines them."""

    scores: Floats
    p_values: npt.NDArray[np.float64] | None
    is_anomaly: npt.NDArray[np.bool_] | None
    threshold: np.float32 | None
    policy: Policy
    calibration_size: int
    maps: Floats | None


class Sampled(NamedTuple):
    """Outputs (n, d), the codes (n, k) that they were decoded from, and the seed of those."""

    outputs: Floats
    latents: Floats
    seed: int


class Interpolated(NamedTuple):
    """Outputs (steps, d) along the path of codes (steps, k)."""

    outputs: Floats
    latents: Floats


class InterpolationMethod(StrEnum):
    """The path between two codes: straight, or along the arc of a great circle."""

    LINEAR = "linear"
    SLERP = "slerp"


async def encode(model: LoadedModel, inputs: Floats, *, log_variances: bool = False) -> Codes:
    """The codes of the inputs. Raises OperationNotSupported when log-variances are asked of codes that have none."""
    model.require(Operation.ENCODE)
    if not log_variances:
        (latents,) = await model.run(Method.ENCODE, inputs)
        return Codes(latents, None)
    if not model.manifest.variational:
        raise OperationNotSupported(f"{model.label} is not variational: its codes have no log-variances")
    mean, log_variance = await model.run(Method.ENCODE_DISTRIBUTION, inputs)
    return Codes(mean, log_variance)


async def decode(model: LoadedModel, latents: Floats) -> Floats:
    """Outputs (n, d) of codes (n, k)."""
    model.require(Operation.DECODE)
    (outputs,) = await model.run(Method.DECODE, latents)
    return outputs


async def reconstruct(model: LoadedModel, inputs: Floats) -> Reconstructed:
    """Reconstructions with their errors, from one forward pass."""
    model.require(Operation.RECONSTRUCT)
    outputs, errors = await model.run(Method.RECONSTRUCT, inputs, checked=False)
    model.check_finite(errors)  # an output that is not finite has no finite error
    return Reconstructed(outputs, errors)


async def denoise(model: LoadedModel, inputs: Floats) -> Floats:
    """Outputs (n, d): the inputs without their noise."""
    model.require(Operation.DENOISE)
    (outputs,) = await model.run(Method.DENOISE, inputs)
    return outputs


async def anomaly_score(
    model: LoadedModel,
    inputs: Floats,
    *,
    alpha: float | None = None,
    threshold: float | None = None,
    maps: bool = False,
) -> Scored:
    """Scores with conformal p-values and verdicts: by `alpha` (the default, 0.01) or by a `threshold` of the caller's.

    An uncalibrated bundle still gives raw scores. Raises NotCalibrated for `alpha` there, InvalidContent for an alpha
    that the calibration cannot resolve, OperationNotSupported for maps of a score that is not a sum over elements.
    """
    model.require(Operation.ANOMALY_SCORE)
    if maps:
        _require_maps(model)
    calibration = model.calibration
    if alpha is not None:
        _check_alpha(alpha, model, calibration)
    elif threshold is None and calibration is not None:
        # A small calibration set may be too coarse for the default; its finest step is the nearest honest answer.
        alpha = max(DEFAULT_ALPHA, calibration.smallest_p_value)

    (scores,) = await model.run(Method.ANOMALY_SCORE, inputs)
    heat = await anomaly_maps(model, inputs) if maps else None
    p_values = calibration.p_values(scores) if calibration is not None else None
    size = calibration.size if calibration is not None else 0
    if threshold is not None:
        limit = np.float32(threshold)
        verdicts = scores > limit
        model.tally.scored(p_values, verdicts)
        return Scored(scores, p_values, verdicts, limit, Policy("threshold", None), size, heat)
    if calibration is None or p_values is None or alpha is None:
        return Scored(scores, None, None, None, Policy("none", None), size, heat)
    verdicts = p_values <= alpha
    model.tally.scored(p_values, verdicts)
    return Scored(scores, p_values, verdicts, calibration.threshold(alpha), Policy("alpha", alpha), size, heat)


async def anomaly_maps(model: LoadedModel, inputs: Floats) -> Floats:
    """What each element adds to its row's score, shape (n, d). Raises OperationNotSupported for a score that is not a
    sum over elements."""
    model.require(Operation.ANOMALY_SCORE)
    _require_maps(model)
    (maps,) = await model.run(Method.ANOMALY_MAP, inputs)
    return maps


async def sample(
    model: LoadedModel, *, count: int, seed: int | None = None, offset: int = 0, temperature: float = 1.0
) -> Sampled:
    """`count` outputs decoded from prior noise. Row i depends on (seed, offset + i) alone; no seed draws one."""
    model.require(Operation.SAMPLE)
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    latents = draw_codes(model.manifest.latent.size, seed=seed, offset=offset, count=count) * np.float32(temperature)
    return Sampled(await _decode(model, latents), latents, seed)


async def interpolate(
    model: LoadedModel, start: Floats, end: Floats, *, steps: int, method: InterpolationMethod, latents: bool
) -> Interpolated:
    """Outputs along the path from `start` to `end`, both included: one row each, codes if `latents`, else inputs."""
    model.require(Operation.INTERPOLATE)
    ends = np.concatenate([start, end])
    codes = ends if latents else (await model.run(Method.ENCODE, ends))[0]
    with np.errstate(over="ignore"):
        path = path_between(codes[0], codes[1], steps=steps, method=method)
    model.check_finite(path)
    return Interpolated(await _decode(model, path), path)


def draw_codes(size: int, *, seed: int, offset: int, count: int) -> Floats:
    """Standard normal codes (count, size): row i comes from Philox (Salmon et al. 2011) keyed by (seed, offset + i), so
    it never depends on `count`."""
    philox = np.random.Philox(key=[seed, offset])
    generator, fresh = np.random.Generator(philox), philox.state
    codes = np.empty((count, size), dtype=np.float32)
    for index, code in enumerate(codes):
        # A fifth of the time that a new generator per row takes: thousands of rows must not hold up the event loop.
        fresh["state"]["key"][1] = offset + index
        philox.state = fresh
        generator.standard_normal(out=code, dtype=np.float32)
    return codes


def path_between(start: Floats, end: Floats, *, steps: int, method: InterpolationMethod) -> Floats:
    """Codes (steps, k) from `start` (k,) to `end` (k,), both exactly included.

    slerp(t) = sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end, w the angle between them (Shoemake 1985; for
    latent codes White 2016, arXiv:1609.04468). Where a code is zero or both are parallel, w gives no arc: linear.
    """
    t = np.linspace(0, 1, steps)[:, None]
    first, last = start.astype(np.float64), end.astype(np.float64)
    weights = 1 - t, t
    if method is InterpolationMethod.SLERP:
        norms = np.linalg.norm(first) * np.linalg.norm(last)
        angle = np.arccos(np.clip(first @ last / norms, -1, 1)) if norms > 0 else 0.0
        if np.sin(angle) > 1e-6:
            weights = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
    path = (weights[0] * first + weights[1] * last).astype(np.float32)
    path[0], path[-1] = start, end
    return path


def range_warning(model: LoadedModel, inputs: Floats, *, extent: tuple[float, float] | None = None) -> str | None:
    """A sentence when inputs lie well outside the values that the bundle was trained on, with the likely cause.
    `extent` is the least and the greatest of them, where that is known already."""
    spec = model.manifest.input
    low, high = model.trained_range
    lowest, highest = extent or (float(inputs.min()), float(inputs.max()))
    slack = 1e-3 * (high - low)
    if lowest >= low - slack and highest <= high + slack:
        return None
    cause = "the values are in other units than the training data's"
    if (low, high) == (0, 1) and lowest >= 0 and 1.5 < highest <= 255:
        cause = "these look like pixels of 0 to 255: divide them by 255, or send the picture itself as image/png"
    elif (low, high) == (0, 1) and -1.01 <= lowest < 0 and highest <= 1.01:
        cause = "these look like pixels scaled to [-1, 1]: this bundle takes [0, 1]"
    elif spec.range is None:
        cause = "the rows are in other units than the training data, or truly unlike it"
    return f"inputs reach from {lowest:.4g} to {highest:.4g}, the training data from {low:.4g} to {high:.4g}; {cause}"


def _require_maps(model: LoadedModel) -> None:
    if not model.manifest.score.additive:
        raise OperationNotSupported(
            f"{model.label} scores by {model.manifest.score.kind}, which is not a sum over elements: it has no maps"
        )


async def _decode(model: LoadedModel, latents: Floats) -> Floats:
    (outputs,) = await model.run(Method.DECODE, latents)
    return outputs


def _check_alpha(alpha: float, model: LoadedModel, calibration: Calibration | None) -> None:
    if calibration is None:
        raise NotCalibrated(f"{model.label} is not calibrated: give a threshold, or neither")
    if not calibration.smallest_p_value <= alpha < 1:
        raise InvalidContent(
            f"alpha must lie in [1/{calibration.size + 1}, 1)",
            faults=[
                Fault(
                    f"with {calibration.size} calibration scores no p-value is below 1/{calibration.size + 1} "
                    f"= {calibration.smallest_p_value:.3g}, so a smaller alpha could never raise an alarm",
                    "#/alpha",
                )
            ],
        )
