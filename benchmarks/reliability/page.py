"""docs/reliability.md and docs/reliability.json: every promise with its goals and what was measured."""

import json
from pathlib import Path
from typing import Any

__all__ = ["page", "write"]

INTRODUCTION = """# Reliability

What clients see while versions are swapped, workers are killed and more is asked than can be done.
`make bench-reliability` measures this page; `make bench-reliability ROWS="{example}"` does rows alone, and
`make soak MINUTES=60` the last one. Every row starts a service of its own over bundles of its own.

Requests come from one client on the same cores. It asks by the clock: requests have random times, whatever becomes of
those before them, and latency counts from the time that a request was due. It checks every answer against the bundle's
own program, run without the service, and counts a request as *ok* (200 and right), *refused* (429 or 503 that says
why, with `Retry-After`), *late* (504 that says why, or an answer that ends by saying so), *lost* (no connection, a
broken one, or 30 s of silence) or *wrong* (anything else). It ends connections that were idle for 3 s, before the
service does after 5 s, and looks whether a connection still stands before it uses it again, as good clients do.
"""


def write(results: dict[str, Any], docs: Path) -> None:
    """`docs`/reliability.json and reliability.md show `results`, by row name, in the order given."""
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "reliability.json").write_text(json.dumps(results, indent=1) + "\n")
    (docs / "reliability.md").write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    parts = [INTRODUCTION.format(example=" ".join([*results][:2]) or "swaps"), _summary(results)]
    return "\n".join([*parts, *(_section(name, result) for name, result in results.items())])


def _summary(results: dict[str, Any]) -> str:
    lines = [["what", "goal", "measured", "state"]]
    for name, result in results.items():
        checks = result["outcome"]["checks"]
        measured = "; ".join(f"{check['what']}: {_figure(check['measured'], check['unit'])}" for check in checks)
        state = "holds" if all(check["holds"] for check in checks) else "**missed**"
        lines.append([f"[{result['title']}](#{name})", result["goal"], measured, state])
    return _table(lines)


def _section(name: str, result: dict[str, Any]) -> str:
    outcome = result["outcome"]
    parts = [f"## {name}\n", f"{result['title']}. {outcome['setting']}.\n"]
    lines = [["what", "measured", "goal", "state"]]
    for check in outcome["checks"]:
        bound = f"{'at most' if check['at_most'] else 'at least'} {_figure(check['bound'], check['unit'])}"
        state = "holds" if check["holds"] else "**missed**"
        lines.append([check["what"], _figure(check["measured"], check["unit"]), bound, state])
    parts.append(_table(lines))
    if outcome["table"]:
        parts.append(_table(outcome["table"]))
    parts += [f"- {note}" for note in outcome["notes"]]
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    parts.append(
        f"\n`{result['command']}`, {result['seconds']} s; {result['machine']}, load {result['load']:.2f} before it; "
        f"{versions}; {result['date']}.\n"
    )
    return "\n".join(parts)


def _table(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest]]) + "\n"


def _figure(value: float, unit: str) -> str:
    text = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{text} {unit}".strip()
