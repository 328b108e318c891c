"""Plots as SVG that takes its colours from the page, so that it follows light and dark."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

__all__ = ["bars", "dots", "histogram", "lines"]

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 14, 40
# The classes of a page's colours go round after so many.
COLOURS = 10


def lines(series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> Markup:
    """One line for each name, through its points; the y axis is logarithmic where values above 0 span a decade."""
    values = [point[1] for points in series.values() for point in points]
    logarithmic = min(values) > 0 and max(values) > 10 * min(values)
    frame = _Frame([p[0] for points in series.values() for p in points], values, logarithmic=logarithmic, counts=True)
    drawn = []
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in points)
        drawn.append(
            Markup('<polyline class="line s{}" points="{}"><title>{}</title></polyline>').format(number, path, name)
        )
        last = points[-1]
        drawn.append(
            Markup('<circle class="fill s{}" r="3" cx="{:.1f}" cy="{:.1f}"/>').format(
                number, frame.x(last[0]), frame.y(last[1])
            )
        )
    return _plot(frame, drawn, x=x, y=y, label=f"{y} over {x}: {', '.join(series)}")


def histogram(
    edges: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    *,
    x: str,
    mark: tuple[float, str] | None = None,
    level: float | None = None,
) -> Markup:
    """One stepped outline for each name, filled; `mark` is a value of x with what it is, `level` a dashed height."""
    top = max([*(share for each in shares.values() for share in each), level or 0.0])
    frame = _Frame(edges, [0, top * 1.08 or 1])
    drawn = []
    for number, (name, each) in enumerate(shares.items()):
        steps = [f"{frame.x(edges[0]):.1f},{frame.y(0):.1f}"]
        for left, right, share in zip(edges, edges[1:], each, strict=False):
            steps += [f"{frame.x(left):.1f},{frame.y(share):.1f}", f"{frame.x(right):.1f},{frame.y(share):.1f}"]
        steps.append(f"{frame.x(edges[-1]):.1f},{frame.y(0):.1f}")
        drawn.append(
            Markup('<polygon class="area s{}" points="{}"><title>{}</title></polygon>').format(
                number, " ".join(steps), name
            )
        )
    if level is not None:
        drawn.append(_dashed(frame.left, frame.y(level), frame.right, frame.y(level)))
    if mark is not None:
        at = frame.x(mark[0])
        drawn.append(_dashed(at, TOP, at, HEIGHT - BOTTOM))
        side = ("end", -5) if at > WIDTH / 2 else ("start", 5)
        drawn.append(
            Markup('<text class="note" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
                at + side[1], TOP + 10, side[0], mark[1]
            )
        )
    return _plot(frame, drawn, x=x, y="share of rows", label=f"Histogram of {x}: {', '.join(shares)}")


def bars(values: Sequence[float], *, x: str, y: str, level: float | None = None) -> Markup:
    """A bar for each value, the largest first; `level` is a dashed height."""
    ordered = sorted(values, reverse=True)
    frame = _Frame([0, len(ordered)], [0, max([*ordered, level or 0.0]) * 1.05 or 1], counts=True)
    drawn = []
    for number, value in enumerate(ordered):
        left, right = frame.x(number + 0.08), frame.x(number + 0.92)
        top = frame.y(value)
        drawn.append(
            Markup(
                '<rect class="fill s0" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}">'
                "<title>{:.4g}</title></rect>"
            ).format(left, top, right - left, HEIGHT - BOTTOM - top, value)
        )
    if level is not None:
        drawn.append(_dashed(frame.left, frame.y(level), frame.right, frame.y(level)))
    return _plot(frame, drawn, x=x, y=y, label=f"{y} of each {x}")


def dots(points: Sequence[tuple[float, float]], labels: Sequence[int] | None, *, x: str, y: str) -> Markup:
    """A dot for each point, coloured by its label."""
    frame = _Frame([p[0] for p in points], [p[1] for p in points], margin=0.05)
    groups: dict[int, list[str]] = {}
    for i, (a, b) in enumerate(points):
        # A line of no length with round ends is the shortest way to write a dot.
        groups.setdefault(0 if labels is None else labels[i] % COLOURS, []).append(
            f"M{frame.x(a):.1f} {frame.y(b):.1f}h0"
        )
    drawn = [
        Markup('<path class="dots s{}" d="{}"/>').format(group, "".join(moves))
        for group, moves in sorted(groups.items())
    ]
    return _plot(frame, drawn, x=x, y=y, label=f"Codes of {len(points)} rows: {x} and {y}")


class _Frame:
    """Where values lie on the paper."""

    def __init__(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        logarithmic: bool = False,
        margin: float = 0.0,
        counts: bool = False,
    ) -> None:
        self.logarithmic = logarithmic
        self.least_step = 1.0 if counts else 0.0
        self.left, self.right = float(LEFT), float(WIDTH - RIGHT)
        self.low_x, self.high_x = _range(xs, margin)
        self.low_y, self.high_y = _range([math.log10(y) for y in ys] if logarithmic else ys, margin)

    def x(self, value: float) -> float:
        return self.left + (value - self.low_x) / (self.high_x - self.low_x) * (self.right - self.left)

    def y(self, value: float) -> float:
        value = math.log10(value) if self.logarithmic else value
        return HEIGHT - BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (HEIGHT - BOTTOM - TOP)

    def y_ticks(self) -> list[float]:
        if not self.logarithmic:
            return _ticks(self.low_y, self.high_y, 5)
        decades = range(math.floor(self.low_y), math.ceil(self.high_y) + 1)
        found = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
        return [tick for tick in found if self.low_y - 1e-9 <= math.log10(tick) <= self.high_y + 1e-9]


def _plot(frame: _Frame, drawn: Sequence[Markup], *, x: str, y: str, label: str) -> Markup:
    grid = Markup("")
    for tick in frame.y_ticks():
        at = frame.y(tick)
        grid += Markup(
            '<path class="grid" d="M{} {:.1f}H{}"/><text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:.4g}</text>'
        ).format(LEFT, at, WIDTH - RIGHT, LEFT - 6, at + 4, tick)
    for tick in _ticks(frame.low_x, frame.high_x, 6, least=frame.least_step):
        grid += Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:.4g}</text>').format(
            frame.x(tick), HEIGHT - BOTTOM + 16, tick
        )
    axis = Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT)
    names = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x
    ) + Markup('<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
        (TOP + HEIGHT - BOTTOM) / 2, y
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}{}</svg>').format(
        WIDTH, HEIGHT, label, grid, Markup("").join(drawn), axis, names
    )


def _dashed(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<path class="dashed" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(x1, y1, x2, y2)


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float, count: int, *, least: float = 0.0) -> list[float]:
    """About `count` round numbers between `low` and `high`, `least` apart or farther."""
    rough = max((high - low) / count, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [
        0.0 if abs(tick) < step * 1e-9 else tick
        for i in range(first, math.floor(high / step + 1e-9) + 1)
        for tick in [i * step]
    ]
