"""Detection: two areas as scikit-learn computes them, an interval around each, and labels that mean anomalies."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from training.detection import anomalous, detection


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_areas_are_those_of_scikit_learn_with_ties_and_without(decimals: int) -> None:
    generator = np.random.default_rng(0)
    marked = generator.random(300) < 0.2
    scores = np.round(generator.normal(size=300) + marked, decimals).astype(np.float32)
    found = detection(scores, marked, seed=0)
    assert found.auroc == pytest.approx(roc_auc_score(marked, scores))
    assert found.average_precision == pytest.approx(average_precision_score(marked, scores))
    assert (found.normal_rows, found.anomalous_rows) == ((~marked).sum(), marked.sum())
    assert found.auroc_interval[0] < found.auroc < found.auroc_interval[1]
    assert found.average_precision_interval[0] < found.average_precision < found.average_precision_interval[1]


def test_the_interval_has_the_width_of_the_known_standard_error() -> None:
    generator = np.random.default_rng(1)
    marked = np.arange(400) < 200
    found = detection(generator.normal(size=400).astype(np.float32), marked, seed=0)
    # Of scores that tell nothing, the area's standard error is sqrt((m + n + 1) / (12 m n)) (Mann & Whitney 1947).
    error = (401 / (12 * 200 * 200)) ** 0.5
    assert found.auroc_interval[1] - found.auroc_interval[0] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_perfect_scores_leave_nothing_open() -> None:
    found = detection(np.arange(10, dtype=np.float32), np.arange(10) >= 7, seed=0)
    assert found.auroc == found.average_precision == 1
    assert found.auroc_interval == found.average_precision_interval == (1, 1)


@pytest.mark.parametrize("labels", [None, [0, 1, 2], [0, 0, 0], [1, 1], [3, 4]])
def test_only_labels_of_zero_and_one_mark_anomalies(labels: list[int] | None) -> None:
    assert anomalous(None if labels is None else torch.tensor(labels)) is None
    marked = anomalous(torch.tensor([0, 1, 1]))
    assert marked is not None
    assert marked.tolist() == [False, True, True]
