"""docs/quality.md from docs/quality.json: every row with its figures, its references and, in an SVG, its curves."""

import json
from pathlib import Path
from typing import Any

__all__ = ["render"]

INTRODUCTION = """# Quality

What the networks of this project reach, next to published figures and to references run on the same rows.
`make quality` writes this page; `make quality ROWS="{example}"` runs rows alone, `make quality-full` adds the complete
tables. Test rows play no part in fitting, stopping or calibration. Figures of several seeds are means, with each seed's
in brackets.
"""


def render(results: dict[str, Any], docs: Path) -> None:
    """`docs`/quality.md and the pictures beside it show `results`, by row name, in the order given."""
    parts = [INTRODUCTION.format(example=next(iter(results), "pca-ladder")), _summary(results)]
    for name, result in results.items():
        parts.append(_section(name, result))
        if result["outcome"]["curves"]:
            _plot(result, docs / "pictures" / f"quality-{name}.svg")
    (docs / "quality.md").write_text("\n".join(parts))
    (docs / "quality.json").write_text(json.dumps(results, indent=1) + "\n")


def _summary(results: dict[str, Any]) -> str:
    lines = [["row", "ours", "goal", "published", "state", "wall time"]]
    for name, result in results.items():
        checks = result["outcome"]["checks"]
        ours = ", ".join(_figure(check["mean"]) for check in checks[:3]) + (", …" if len(checks) > 3 else "")
        state = "holds" if all(check["holds"] for check in checks) else "**missed**"
        link = f"[{result['title']}](#{name})"
        lines.append([link, ours, result["goal"], result["published"], state, f"{result['seconds'] / 60:.1f} min"])
    return _table(lines)


def _section(name: str, result: dict[str, Any]) -> str:
    outcome = result["outcome"]
    parts = [f"## {name}\n", f"{result['title']}. {outcome['setting']}\n"]
    lines = [["what", "figure", "goal", "state"]]
    for check in outcome["checks"]:
        seeds = "" if len(check["figures"]) < 2 else f" ({', '.join(map(_figure, check['figures']))})"
        bound = f"{'at most' if check['at_most'] else 'at least'} {_figure(check['bound'])}"
        held = "holds" if check["holds"] else "**missed**"
        lines.append([check["what"], f"{_figure(check['mean'])}{seeds} {check['unit']}".strip(), bound, held])
    parts.append(_table(lines))
    if outcome["references"]:
        lines = [["reference", "figure", "source"]]
        for reference in outcome["references"]:
            source = f"{'measured here' if reference['measured'] else 'published'}: {reference['source']}"
            lines.append([reference["name"], _figure(reference["value"]), source])
        parts.append(_table(lines))
    if outcome["table"]:
        parts.append(_table(outcome["table"]))
    if outcome["curves"]:
        parts.append(f"![{outcome['axes'][1]} over {outcome['axes'][0]}](pictures/quality-{name}.svg)\n")
    parts += [f"- {note}" for note in outcome["notes"]]
    seeds = ", ".join(map(str, outcome["seeds"]))
    parts.append(f"\nSeeds {seeds}; {result['seconds']:.0f} s; {result['machine']}; {result['date']}.\n")
    return "\n".join(parts)


def _table(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest]]) + "\n"


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"


def _plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "diabolo"  # the same picture for the same figures
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for curve in result["outcome"]["curves"]:
        axes.plot(curve["x"], curve["y"], marker="o", markersize=4, label=curve["name"])
    axes.set(xlabel=result["outcome"]["axes"][0], ylabel=result["outcome"]["axes"][1])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
