"""Calibration: what the *exported* program scores on rows that nothing was fitted to."""

import numpy as np

from bundle.calibration import Calibration, Floats
from bundle.operations import Method
from training.export import Artefact

__all__ = ["MAP_QUANTILE", "calibrate", "map_ceiling"]

MAP_QUANTILE = 0.9995


def calibrate(artefact: Artefact, rows: Floats) -> Calibration:
    """The calibration that held-out normal `rows` (n, d) give. Raises CalibrationInvalid when a score is not finite."""
    (scores,) = artefact.run(Method.ANOMALY_SCORE, rows)
    return Calibration.fit(scores)


def map_ceiling(artefact: Artefact, rows: Floats) -> float:
    """The value below which 99.95 % of the elements of `anomaly_map` lie on held-out normal `rows` (n, d); above 0 even
    where the reconstruction is perfect."""
    (maps,) = artefact.run(Method.ANOMALY_MAP, rows)
    return max(float(np.quantile(maps, MAP_QUANTILE)), float(np.finfo(np.float32).tiny))
