"""A comparison as text for a reader, and as a JSON document."""

from typing import Any

from cli.comparison import Comparison, Verdicts
from cli.judge import Judge

__all__ = ["document", "page"]

WIDTH = 36
SHOWN_ROWS = 10


def document(a: Judge, b: Judge, found: Comparison) -> dict[str, Any]:
    """Everything, with the names of Comparison and Verdicts; rows are counted from 0."""
    bundles = {
        side: {
            "name": judge.bundle.manifest.name,
            "version": judge.bundle.manifest.version,
            "digest": judge.bundle.digest,
            "family": judge.bundle.manifest.family,
            "score": judge.bundle.manifest.score.kind,
            "calibration_size": judge.calibration.size,
        }
        for side, judge in (("a", a), ("b", b))
    }
    verdicts = [{**at._asdict(), "alphas": at.alphas._asdict()} for at in found.verdicts]
    return {**bundles, **found._asdict(), "verdicts": verdicts}


def page(a: Judge, b: Judge, found: Comparison) -> str:
    """The figures in lines, and the first rows whose verdict flips."""
    lines = [
        f"{side}  {judge.label}: {judge.bundle.manifest.family}, {judge.bundle.manifest.score.kind}, "
        f"digest {judge.bundle.digest[:12]}"
        for side, judge in (("A", a), ("B", b))
    ]
    distance, difference = found.p_value_distance, found.p_value_difference
    lines += [
        f"{found.rows:,} rows",
        "",
        _line("rank correlation of scores", _figure(found.rank_correlation)),
        _line("p-values: largest gap of shares", f"{distance:.4f}"),
        _line("p-values: median difference", f"{difference:.4f}"),
        _line(
            "mean squared error",
            f"A {_figure(found.reconstruction_error_a)}, B {_figure(found.reconstruction_error_b)}",
        ),
    ]
    for at in found.verdicts:
        lines += ["", *_verdicts(at, found.rows)]
    return "\n".join(lines)


def _verdicts(at: Verdicts, rows: int) -> list[str]:
    a, b = at.alphas
    flagged = [f"{count:,} ({count / rows:.2%})" for count in (at.flagged_a, at.flagged_b)]
    shift = "of different kinds, not comparable"
    if at.threshold_shift is not None and at.threshold_a_in_b is not None:
        shift = f"{at.threshold_shift:+.6g}; A's is B's at alpha {at.threshold_a_in_b:.4g}"
    return [
        f"at alpha {a:.4g}" if a == b else f"at alpha {a:.4g} for A and {b:.4g} for B, their defaults",
        _line("  flagged", f"A {flagged[0]}, B {flagged[1]}"),
        _line("  verdicts that flip", f"{len(at.only_a) + len(at.only_b):,} ({at.flips:.2%})"),
        _line("  flagged by A alone", _rows(at.only_a)),
        _line("  flagged by B alone", _rows(at.only_b)),
        _line("  threshold", f"A {at.threshold_a:.6g}, B {at.threshold_b:.6g}"),
        _line("  shift of the threshold", shift),
        _line("  B flags as many as A at alpha", _figure(at.matching_alpha)),
    ]


def _line(what: str, figures: str) -> str:
    return f"{what:{WIDTH}}{figures}"


def _rows(numbers: tuple[int, ...]) -> str:
    """How many, and the first of them."""
    if not numbers:
        return "0"
    more = ", ..." if len(numbers) > SHOWN_ROWS else ""
    return f"{len(numbers):,}: rows {', '.join(map(str, numbers[:SHOWN_ROWS]))}{more}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
