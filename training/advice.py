"""What a run should be warned of, each time with what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import beta, betabinom

from bundle.calibration import Calibration
from training.fit import Epoch
from training.health import Health

__all__ = ["Advice", "FalsePositives", "advise", "false_positives", "still_falling"]

IDENTITY = 0.1  # of the variance of shuffled rows: less than that is lost
IDENTITY_UNHINDERED = 0.3  # where nothing but too few steps kept the network from it
LATE = 0.02
SURPRISING = 0.001


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A warning: its name, what was found, and the remedy, in words."""

    name: str
    found: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class FalsePositives:
    """How many of `rows` normal test rows have a p-value of at most `alpha`, beside what n calibration rows allow.

    Given the calibration scores, the rate of false alarms is Beta(l, n + 1 - l), l = floor(alpha (n + 1)) (Vovk 2012;
    Bates et al. 2023): `interval` is its central 95 %. The count of test rows is then beta-binomial; `surprise` is the
    smaller of its two tails at what was counted. Where alpha < 1 / (n + 1) there are no alarms, and both are None.
    """

    alpha: float
    rows: int
    alarms: int
    interval: tuple[float, float] | None
    surprise: float | None


def false_positives(calibration: Calibration, p_values: Sequence[float], *, alpha: float) -> FalsePositives:
    """The count of `p_values` of normal test rows, with its law."""
    alarms = sum(p <= alpha for p in p_values)
    n, rows = calibration.size, len(p_values)
    if alpha < calibration.smallest_p_value:
        return FalsePositives(alpha=alpha, rows=rows, alarms=alarms, interval=None, surprise=None)
    ranks = sum(rank / (n + 1) <= alpha for rank in range(1, n + 1))
    law = (ranks, n + 1 - ranks)
    tails = betabinom.cdf(alarms, rows, *law), betabinom.sf(alarms - 1, rows, *law)
    low, high = beta.ppf([0.025, 0.975], *law)
    return FalsePositives(
        alpha=alpha, rows=rows, alarms=alarms, interval=(float(low), float(high)), surprise=float(min(tails))
    )


def still_falling(epochs: Sequence[Epoch]) -> bool:
    """True when the last validation loss is the lowest, and over the last tenth of the epochs it fell by more than 2 %
    of all that it fell since the first."""
    losses = [epoch.validation_loss for epoch in epochs]
    if len(losses) < 2 or losses[-1] > min(losses):
        return False
    late = losses[-1 - max(1, len(losses) // 10)] - losses[-1]
    return late > LATE * (losses[0] - losses[-1])


def advise(
    health: Health, false: FalsePositives, *, epochs: Sequence[Epoch], calibration_size: int, overcomplete: bool
) -> tuple[Advice, ...]:
    """Every warning that applies; none when all is well. `overcomplete`: no layer is narrower than a row,
    and nothing else stands between the network and the identity."""
    found = []
    if health.divergences is not None and 2 * health.active < health.size:
        found.append(
            Advice(
                name="posterior collapse",
                found=f"Only {health.active} of {health.size} values of the code say anything about the row; the rest "
                "have gone over to the prior, and the decoder ignores them.",
                remedy="Lower beta or let it grow over the first epochs, give each value some free bits, narrow the "
                "code, or sharpen the likelihood.",
            )
        )
    if health.divergences is None and health.dead > 0:
        found.append(
            Advice(
                name="dead units",
                found=f"{health.dead} of {health.size} values of the code are the same for every test row.",
                remedy="Lower the learning rate or the weight of the sparsity penalty, keep more values with top-k, "
                "try another activation, or narrow the code.",
            )
        )
    if health.unexplained_shuffled < (IDENTITY_UNHINDERED if overcomplete else IDENTITY):
        kind = "is nowhere narrower than a row and may copy it" if overcomplete else "copies what it gets"
        found.append(
            Advice(
                name="identity learnt",
                found=f"Rows put together from elements of different rows come back too: "
                f"{health.unexplained_shuffled:.1%} of their variance is lost, {health.unexplained:.1%} of test rows'. "
                f"The network {kind}, so its reconstruction error says little about anomalies.",
                remedy="Narrow the code, corrupt the input (denoising), or penalise the code (sparse, contractive). A "
                "Mahalanobis score helps where the network has to stay as it is.",
            )
        )
    if false.interval is None:
        found.append(
            Advice(
                name="calibration too small",
                found=f"With {calibration_size:,} calibration rows no p-value is below 1/{calibration_size + 1}, so no "
                f"row is ever flagged at alpha {false.alpha:g}.",
                remedy=f"Hold out at least {round(1 / false.alpha) - 1:,} rows for calibration, better 2,000.",
            )
        )
    if false.surprise is not None and false.surprise < SURPRISING:
        found.append(
            Advice(
                name="false alarms off alpha",
                found=f"{false.alarms:,} of {false.rows:,} normal test rows are flagged at alpha {false.alpha:g} "
                f"({false.alarms / false.rows:.2%}). If they were like the calibration rows, a count that far off "
                f"would come up less than once in {int(1 / SURPRISING):,} runs.",
                remedy="Test and calibration rows differ: see whether they come from one source and time, split them "
                "at random, or calibrate on rows like those that will be served.",
            )
        )
    if still_falling(epochs):
        found.append(
            Advice(
                name="loss still falling",
                found=f"The validation loss was still going down in epoch {epochs[-1].number}, the last.",
                remedy="Train for more epochs.",
            )
        )
    return tuple(found)
