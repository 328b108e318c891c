"""A bundle that says of rows how anomalous they are, in the service's own runtime but without the service."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.calibration import Calibration, Floats
from bundle.errors import BundleError
from bundle.manifest import InputSpec, is_name
from bundle.operations import Method, Operation
from bundle.read import Bundle, read_bundle, scan
from cli.comparison import Alphas, Judged
from service.engine.runtimes import OpenRuntime, Runtime
from service.errors import DeviceUnavailable
from service.operations import DEFAULT_ALPHA

__all__ = ["Judge", "NotComparable", "alphas_of", "common_input", "find_bundle", "open_judge"]

BATCH_ROWS = 256


class NotComparable(Exception):
    """Bundles that cannot be compared as was asked; the text says why, and what would be right."""


class Judge(NamedTuple):
    """A verified, calibrated bundle that has reproduced its golden probe."""

    bundle: Bundle
    calibration: Calibration
    runtime: Runtime

    @property
    def label(self) -> str:
        """`name/version`, for texts."""
        return f"{self.bundle.manifest.name}/{self.bundle.manifest.version}"

    def judge(self, rows: Floats) -> Judged:
        """What it says of rows (n, d). Raises NotComparable where that is not finite."""
        manifest = self.bundle.manifest
        parts = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
        scores = np.concatenate([self.runtime.run(Method.ANOMALY_SCORE, part)[0] for part in parts])
        self._check_finite(scores)
        if Operation.RECONSTRUCT not in manifest.operations:
            return Judged(scores, self.calibration, None)
        with np.errstate(over="ignore"):
            errors = np.concatenate(
                [np.square(self.runtime.run(Method.RECONSTRUCT, part)[0] - part).mean(axis=1) for part in parts]
            )
        self._check_finite(errors)
        return Judged(scores, self.calibration, errors)

    def _check_finite(self, values: Floats) -> None:
        if not np.isfinite(values).all():
            row = int(np.isfinite(values).argmin())
            raise NotComparable(
                f"what {self.label} makes of row {row} (counted from 0) is not finite: "
                "its values are far beyond what the bundle was trained on"
            )


def find_bundle(text: str, models_dir: Path) -> Path:
    """The folder of the bundle that is called `name` (its newest version) or `name/version` in `models_dir`, or that
    lies at this path. Raises NotComparable."""
    named = re.fullmatch(r"([^/]+)(?:/([0-9]+))?", text)
    if named is None or not is_name(named[1]) or not (models_dir / named[1]).is_dir():
        if Path(text).is_dir():
            return Path(text).resolve()
        raise NotComparable(f"there is no bundle {text} in {models_dir}, and no folder of that path")
    versions = {location.version: location.path for location in scan(models_dir) if location.name == named[1]}
    version = int(named[2]) if named[2] else max(versions, default=0)
    if version not in versions:
        there = ", ".join(map(str, sorted(versions))) or "none at all"
        raise NotComparable(f"{models_dir / named[1]} has no version {named[2] or 'yet'}; there is {there}")
    return versions[version].resolve()


def open_judge(folder: Path, open_runtime: OpenRuntime) -> Judge:
    """The bundle in `folder`. Raises NotComparable when it is not sound, or gives no verdicts."""
    label = f"{folder.parent.name}/{folder.name}"
    try:
        bundle = read_bundle(folder)
        if Operation.ANOMALY_SCORE not in bundle.manifest.operations:
            raise NotComparable(f"{label} gives no anomaly scores: there is nothing to compare")
        if bundle.calibration is None:
            raise NotComparable(f"{label} is not calibrated: it has no threshold and gives no verdicts to compare")
        runtime = open_runtime(bundle)
        bundle.golden.replay(runtime.run)
    except BundleError as error:
        raise NotComparable(f"{label} is not sound: {error.reason}: {error}") from None
    except DeviceUnavailable as error:
        raise NotComparable(str(error)) from None
    except OSError as error:
        raise NotComparable(f"{label} cannot be read: {error.strerror}") from None
    return Judge(bundle, bundle.calibration, runtime)


def alphas_of(a: Judge, b: Judge, given: list[float]) -> list[Alphas]:
    """The alpha that each serves by default, which a small calibration set may be too coarse for, and those given.
    Raises NotComparable for one that a calibration cannot resolve."""
    for alpha in given:
        for judge in (a, b):
            if not judge.calibration.smallest_p_value <= alpha < 1:
                size = judge.calibration.size
                raise NotComparable(
                    f"with the {size} calibration scores of {judge.label}, alpha must lie in [1/{size + 1}, 1); "
                    f"{alpha} was asked for"
                )
    default = Alphas(*(max(DEFAULT_ALPHA, judge.calibration.smallest_p_value) for judge in (a, b)))
    return list(dict.fromkeys([default, *(Alphas(alpha, alpha) for alpha in given)]))


def common_input(a: Judge, b: Judge) -> InputSpec:
    """The rows that both take, with their features' names if either has them. Raises NotComparable when what is right
    for one would be wrong for the other."""
    one, other = a.bundle.manifest.input, b.bundle.manifest.input
    unlike = [f"rows of {spec.size} values" for spec in (one, other)]
    if one.size == other.size:
        pictures = [spec.image and f"pictures of {spec.image.height} x {spec.image.width}" for spec in (one, other)]
        unlike = [f"{shown or 'no pictures'}" for shown in pictures]
        if one.image == other.image:
            unlike = [f"values in {list(spec.range)}" if spec.range else "values of any range" for spec in (one, other)]
    names = [spec.feature_names for spec in (one, other) if spec.feature_names is not None]
    if (one.size, one.image, one.range) == (other.size, other.image, other.range):
        if len(set(names)) < 2:
            return one if one.feature_names is not None else other
        place = next(index for index, pair in enumerate(zip(*names, strict=True)) if pair[0] != pair[1])
        unlike = [f"{found[place]!r} as feature {place}" for found in names]
    raise NotComparable(f"{a.label} takes {unlike[0]}, {b.label} {unlike[1]}: no rows are right for both")
