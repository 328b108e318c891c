"""Everything that a report says in figures: what report.json holds, and all that the page is drawn from."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from scipy.stats import ks_2samp
from torch import Tensor

from bundle.calibration import Calibration, Floats
from bundle.manifest import Manifest
from bundle.operations import Family, Method
from training.advice import Advice, FalsePositives, advise, false_positives
from training.config import Config
from training.detection import Detection, anomalous, detection
from training.evaluate import ALPHA
from training.export import Artefact
from training.fit import Epoch
from training.health import Health, examine
from training.networks import Autoencoder

__all__ = ["Findings", "Scatter", "Scores", "find"]

POINTS = 1000
BINS = 40
P_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How calibration rows and normal test rows score, and anomalous ones where labels mark them.

    `shares` says which share of each kind of row lies between neighbouring `edges`; the last bin also has all beyond.
    `p_value_shares` are those of normal test rows in 20 equal parts of [0, 1]. `agreement` is the p-value of a
    Kolmogorov-Smirnov test that calibration and normal test rows score alike.
    """

    kind: str
    threshold: float | None
    edges: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]
    p_value_shares: tuple[float, ...]
    agreement: float
    false_positives: FalsePositives


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Codes of up to 1,000 test rows (m, 2), along the two directions in which they vary most, and the share of their
    variance that each shows; `labels` (m,) are numbers of `names`."""

    points: tuple[tuple[float, float], ...]
    shown: tuple[float, ...]
    labels: tuple[int, ...] | None
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """One run, in figures. `figures` are those of the manifest, `losses` one row (epoch, training, validation) each."""

    name: str
    version: int
    family: str
    figures: dict[str, float]
    losses: tuple[tuple[int, float, float], ...]
    health: Health
    scatter: Scatter
    scores: Scores
    detection: Detection | None
    advice: tuple[Advice, ...]

    def as_json(self) -> dict[str, JsonValue]:
        """Every figure, nested as here."""
        values: dict[str, JsonValue] = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        return values

    def to_bytes(self) -> bytes:
        """The bytes of report.json."""
        return (json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n").encode()


def find(
    artefact: Artefact,
    network: Autoencoder,
    config: Config,
    *,
    manifest: Manifest,
    epochs: Sequence[Epoch],
    calibration: Calibration,
    test: Tensor,
    labels: Tensor | None,
    label_names: Sequence[str] | None = None,
) -> Findings:
    """What the exported program does on the `test` rows (n, d) with their `labels` (n,). Nothing is fitted to them."""
    (scores,) = artefact.run(Method.ANOMALY_SCORE, test.numpy())
    marked = anomalous(labels)
    normal = scores if marked is None else scores[~marked]
    false = false_positives(calibration, calibration.p_values(normal).tolist(), alpha=ALPHA)
    usual = test if marked is None else test[torch.from_numpy(~marked)]
    health = examine(artefact, network, test=usual, variational=config.variational, seed=config.seed)
    return Findings(
        name=manifest.name,
        version=manifest.version,
        family=manifest.family.value,
        figures=dict(manifest.metrics),
        losses=tuple((epoch.number, epoch.training_loss, epoch.validation_loss) for epoch in epochs),
        health=health,
        scatter=_scatter(
            artefact.run(Method.ENCODE, test[:POINTS].numpy())[0],
            labels,
            label_names or (None if marked is None else ("normal", "anomaly")),
        ),
        scores=_scores(manifest.score.kind, calibration, normal, None if marked is None else scores[marked], false),
        detection=None if marked is None else detection(scores, marked, seed=config.seed),
        advice=advise(
            health,
            false,
            epochs=epochs,
            calibration_size=calibration.size,
            overcomplete=config.architecture.narrowest >= test.shape[1]
            and config.family in (Family.LINEAR, Family.VANILLA),
        ),
    )


def _scores(
    kind: str, calibration: Calibration, normal: Floats, strange: Floats | None, false: FalsePositives
) -> Scores:
    threshold = None if false.interval is None else float(calibration.threshold(false.alpha))
    lowest = float(min(calibration.scores[0], normal.min()))
    # A single far outlier would press all others into one bin; what lies beyond is counted in the last.
    usual = float(np.quantile(calibration.scores, 0.98))
    highest = max(usual + 0.6 * (usual - lowest), lowest + 1e-6 * max(1.0, abs(lowest)))
    if threshold is not None:
        highest = max(highest, threshold + 0.1 * (threshold - lowest))
    edges = np.linspace(lowest, highest, BINS + 1)

    def shares(values: npt.NDArray[np.floating], edges: npt.NDArray[np.float64]) -> tuple[float, ...]:
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        return tuple((counts / len(values)).tolist())

    kinds = {"calibration": calibration.scores, "test": normal} | ({} if strange is None else {"anomalies": strange})
    return Scores(
        kind=kind,
        threshold=threshold,
        edges=tuple(edges.tolist()),
        shares={name: shares(values, edges) for name, values in kinds.items()},
        p_value_shares=shares(calibration.p_values(normal), np.linspace(0, 1, P_BINS + 1)),
        agreement=float(ks_2samp(calibration.scores, normal).pvalue),
        false_positives=false,
    )


def _scatter(codes: Floats, labels: Tensor | None, names: Sequence[str] | None) -> Scatter:
    centred = codes.astype(np.float64) - codes.mean(axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    spread = np.square(singular)
    points = np.zeros((len(codes), 2))
    points[:, : min(2, len(singular))] = (left * singular)[:, :2]
    classes = None if labels is None else tuple(labels[: len(codes)].tolist())
    known = 0 if classes is None else max(classes) + 1
    return Scatter(
        points=tuple((float(f"{x:.4g}"), float(f"{y:.4g}")) for x, y in points),
        shown=tuple((spread[:2] / max(spread.sum(), np.finfo(np.float64).tiny)).tolist()),
        labels=classes,
        names=tuple(str(i) for i in range(known)) if names is None else tuple(names),
    )
