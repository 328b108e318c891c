"""Conformal p-values keep their promise: false alarms follow the law that exchangeability gives, bundle by bundle."""

import math

import numpy as np

from benchmarks.quality.row import Check, Outcome, Row
from benchmarks.quality.shipped import fashion_bundles, fashion_test, scores
from bundle.calibration import Calibration, Floats

CALIBRATION, SPLITS, ALPHA = 1_000, 200, 0.05


def false_alarms(pool: Floats, *, seed: int) -> list[int]:
    """How many of the other scores of `pool` (n,) are alarmed at ALPHA, for 200 draws of 1,000 that calibrate."""
    generator = np.random.default_rng(seed)
    counts = []
    for _ in range(SPLITS):
        order = generator.permutation(len(pool))
        calibration = Calibration.fit(pool[order[:CALIBRATION]])
        counts.append(int((calibration.p_values(pool[order[CALIBRATION:]]) <= ALPHA).sum()))
    return counts


def measure(full: bool) -> Outcome:  # noqa: ARG001 (there is no larger table)
    """Every bundle by splits of its own."""
    from scipy.stats import betabinom, kstest

    test = fashion_test()
    ranks, others = math.floor(ALPHA * (CALIBRATION + 1)), len(test) - CALIBRATION
    expected = ranks / (CALIBRATION + 1)
    # A rate given the calibration rows is Beta's; the alarms among so many other rows are binomial with that rate.
    law = betabinom(others, ranks, CALIBRATION + 1 - ranks)
    standard_error = law.std() / others / math.sqrt(SPLITS)
    table = [
        ("bundle", "family", "mean rate", "its deviation / standard error", "spread", "KS p", "as shipped, at 0.01")
    ]
    checks = []
    for seed, bundle in enumerate(fashion_bundles()):
        pool = scores(bundle, test)
        counts = np.array(false_alarms(pool, seed=seed))
        rates = counts / others
        deviation = (float(rates.mean()) - expected) / standard_error
        p = float(kstest(counts, law.cdf).pvalue)
        name = bundle.manifest.name
        checks += [
            Check(what=f"{name}: deviation in standard errors", figures=(abs(deviation),), bound=3.0, at_most=True),
            Check(what=f"{name}: KS p", figures=(p,), bound=0.01, at_most=False),
        ]
        assert bundle.calibration is not None  # shipped bundles have one
        own = float((bundle.calibration.p_values(pool) <= 0.01).mean())
        figures = f"{rates.mean():.5f}", f"{deviation:+.2f}", f"{rates.std(ddof=1):.5f}", f"{p:.3f}", f"{own:.4f}"
        table.append((name, bundle.manifest.family.value, *figures))
    return Outcome(
        setting="The exported program of every shipped bundle scores the 10,000 rows of Fashion-MNIST's test file "
        f"once; {SPLITS} times {CALIBRATION:,} of them, drawn anew, calibrate and the other {others:,} are tested at "
        f"alpha {ALPHA}. The law: mean {expected:.5f}, spread {law.std() / others:.5f}, Beta({ranks}, "
        f"{CALIBRATION + 1 - ranks}) mixed with the binomial of {others:,} rows",
        seeds=tuple(range(len(checks) // 2)),
        checks=tuple(checks),
        table=tuple(table),
        notes=(
            "The law asks for nothing but exchangeable scores without ties, so any score keeps it, good or bad; what "
            "the row can find is an error in the p-values, many ties, or scores that are not exchangeable.",
            "The last column is the bundle's own calibration, rows of the train file, against the test file: there "
            "the two files must be alike too, which the law does not promise.",
        ),
    )


ROW = Row(
    name="conformal",
    title="False alarms of conformal p-values over 200 random splits",
    published="exact",
    goal="mean and spread by the law, for every family",
    measure=measure,
)
