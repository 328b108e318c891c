"""Warnings: each fires on what it is for, and a sound run has none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom

from bundle.calibration import Calibration
from training.advice import Advice, advise, false_positives, still_falling
from training.fit import Epoch
from training.health import Health

SOUND = Health(
    size=4,
    variances=(1.0, 0.9, 0.5, 0.4),
    active=4,
    dead=0,
    divergences=None,
    quiet=0.1,
    jacobian=2.0,
    unexplained=0.05,
    unexplained_shuffled=0.8,
)
SETTLED = [Epoch(i, loss, loss) for i, loss in enumerate((1.0, 0.5, 0.3, 0.25, 0.25), start=1)]
CALIBRATION = Calibration.fit(np.linspace(0, 1, 999, dtype=np.float32))
EVEN = [(i + 0.5) / 1000 for i in range(1000)]


def names(
    health: Health = SOUND,
    *,
    p_values: list[float] = EVEN,
    epochs: list[Epoch] = SETTLED,
    calibration: Calibration = CALIBRATION,
    overcomplete: bool = False,
) -> list[str]:
    false = false_positives(calibration, p_values, alpha=0.01)
    given = advise(health, false, epochs=epochs, calibration_size=calibration.size, overcomplete=overcomplete)
    assert all(isinstance(each, Advice) and each.found and each.remedy for each in given)
    return [each.name for each in given]


def test_a_sound_run_has_no_warning() -> None:
    assert names() == []
    assert names(replace(SOUND, divergences=(1.0, 0.5, 0.4, 0.2))) == []


@pytest.mark.parametrize(("active", "warned"), [(4, False), (2, False), (1, True), (0, True)])
def test_a_prior_that_most_values_have_gone_over_to_is_a_collapse(active: int, warned: bool) -> None:
    health = replace(SOUND, divergences=(1.0, 0.0, 0.0, 0.0), active=active)
    assert names(health) == ["posterior collapse"] * warned
    assert names(replace(SOUND, active=active)) == []


def test_units_that_never_vary_are_dead_but_without_a_prior_only() -> None:
    assert names(replace(SOUND, dead=1)) == ["dead units"]
    assert names(replace(SOUND, dead=1, divergences=(1.0, 1.0, 1.0, 0.0))) == []


def test_shuffled_rows_that_come_back_mean_the_identity() -> None:
    assert names(replace(SOUND, unexplained_shuffled=0.06)) == ["identity learnt"]
    assert names(replace(SOUND, unexplained_shuffled=0.2)) == []
    assert names(replace(SOUND, unexplained_shuffled=0.2), overcomplete=True) == ["identity learnt"]
    assert names(overcomplete=True) == []


@pytest.mark.parametrize(("size", "warned"), [(98, True), (99, False)])
def test_alpha_below_the_smallest_p_value_needs_more_calibration(size: int, warned: bool) -> None:
    calibration = Calibration.fit(np.arange(size, dtype=np.float32))
    assert names(calibration=calibration) == ["calibration too small"] * warned


@pytest.mark.parametrize(
    ("losses", "falling"),
    [
        ((1.0, 0.5, 0.3, 0.25, 0.25), False),
        ((1.0, 0.5, 0.3, 0.25, 0.2), True),
        ((1.0, 0.5, 0.3, 0.2, 0.21), False),
        ((-1.0, -5.0, -9.0), True),
        (tuple(1 / (i + 1) ** 2 for i in range(60)), False),
        (tuple(1 - i / 60 for i in range(60)), True),
        ((1.0,), False),
    ],
)
def test_a_loss_that_still_falls_is_seen(losses: tuple[float, ...], falling: bool) -> None:
    epochs = [Epoch(i, loss, loss) for i, loss in enumerate(losses, start=1)]
    assert still_falling(epochs) == falling
    assert names(epochs=epochs) == ["loss still falling"] * falling


def test_false_alarms_within_their_law_are_no_warning_and_beyond_it_are() -> None:
    low, high = betabinom.ppf([0.002, 0.998], 1000, 10, 990)
    for alarms, wanted in ((low, []), (10, []), (high, []), (high + 20, ["false alarms off alpha"])):
        assert names(p_values=[0.005] * int(alarms) + [0.5] * (1000 - int(alarms))) == wanted


def test_the_law_of_false_alarms_is_that_of_fresh_calibrations() -> None:
    generator = np.random.default_rng(0)
    counts = []
    for _ in range(400):
        calibration = Calibration.fit(generator.random(199, dtype=np.float32))
        p_values = calibration.p_values(generator.random(300, dtype=np.float32)).tolist()
        found = false_positives(calibration, p_values, alpha=0.05)
        counts.append(found.alarms)
        assert found.interval is not None
        assert found.interval[0] < 0.05 < found.interval[1]
    inside = np.mean(
        [betabinom.ppf(0.025, 300, 10, 190) <= count <= betabinom.ppf(0.975, 300, 10, 190) for count in counts]
    )
    assert inside > 0.92
