"""report.html: one file that opens offline, in light and in dark, on a phone and on a desk."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bundle.calibration import Floats
from bundle.manifest import ImageSpec, Manifest
from training.health import ACTIVE_VARIANCE
from training.report import plots
from training.report.findings import Findings
from training.report.gallery import Line
from training.report.tiles import data_url, tile
from training.report.words import ANSWERS, MEANINGS, SCORES

__all__ = ["page"]

FEATURES = 60
PROFILES = 4
CLASSES = 10  # what colours can tell apart


def page(findings: Findings, manifest: Manifest, lines: Sequence[Line]) -> bytes:
    """The bytes of report.html, which draws `findings`, names what `manifest` says, and shows `lines`; all that comes
    from data, names and labels among it, is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    health, scores, scatter = findings.health, findings.scores, findings.scatter
    labels = scatter.labels if len(scatter.names) <= CLASSES else None
    # The first epochs of a long run are so far up that nothing could be seen of the others.
    settled = findings.losses[len(findings.losses) // 20 :]
    losses = {
        "training": [(number, training) for number, training, _ in settled],
        "validation": [(number, validation) for number, _, validation in settled],
    }
    percent = [f"{share:.0%}" for share in scatter.shown]
    units = (
        plots.bars(health.variances, x="value of the code, in falling order", y="variance over test rows")
        if health.divergences is None
        else plots.bars(health.divergences, x="value of the code, in falling order", y="divergence (nats)")
    )
    mark = None if scores.threshold is None else (scores.threshold, f"alpha {scores.false_positives.alpha:g}")
    p_edges = [i / len(scores.p_value_shares) for i in range(len(scores.p_value_shares) + 1)]
    drawn = {
        "losses": plots.lines(losses, x="epoch", y="loss"),
        "units": units,
        "codes": plots.dots(
            scatter.points,
            labels,
            x=f"first principal direction ({percent[0]})",
            y=f"second ({percent[1]})" if len(percent) > 1 else "",
        ),
        "scores": plots.histogram(scores.edges, scores.shares, x="score", mark=mark),
        "p_values": plots.histogram(
            p_edges, {"test": scores.p_value_shares}, x="p-value", level=1 / len(scores.p_value_shares)
        ),
    }
    html = environment.get_template("page.html").render(
        findings=findings,
        manifest=manifest,
        plots=drawn,
        first_epoch=settled[0][0],
        gallery=_gallery(lines, manifest.input.image),
        profiles=_profiles(lines) if manifest.input.image is None else [],
        classes=[] if labels is None else list(enumerate(scatter.names)),
        active_variance=ACTIVE_VARIANCE,
        answers=ANSWERS,
        meanings=MEANINGS,
        score_meaning=SCORES[scores.kind].replace("`", ""),
    )
    return html.encode()


def figure(value: float) -> str:
    """A figure as the page says it: four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _gallery(lines: Sequence[Line], image: ImageSpec | None) -> dict[str, list[tuple[str, list[str]]]]:
    """Part -> lines of pictures; none for rows that are no pictures."""
    parts: dict[str, list[tuple[str, list[str]]]] = {}
    if image is None:
        return parts
    scale = float(lines[0].rows.min()), float(lines[0].rows.max())
    for line in lines:
        pictures = [data_url(tile(row, image=image, scale=scale)) for row in line.rows]
        parts.setdefault(line.part, []).append((line.label, pictures))
    return parts


def _profiles(lines: Sequence[Line]) -> list[Markup]:
    """A few rows that are no pictures, as curves over their first features: what went in and what came back."""
    shown = [line for line in lines if line.part == lines[0].part]

    def curve(row: Floats) -> list[tuple[float, float]]:
        return [(float(i + 1), float(value)) for i, value in enumerate(row[:FEATURES])]

    count = min(PROFILES, len(shown[0].rows))
    return [
        plots.lines({line.label: curve(line.rows[i]) for line in shown}, x="feature", y="standard deviations")
        for i in range(count)
    ]
