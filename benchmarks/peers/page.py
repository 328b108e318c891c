"""docs/performance.md, its picture and its JSON: what every server reaches, in every cell."""

import json
from pathlib import Path
from typing import Any

__all__ = ["GOALS", "page", "write"]

STAGES = ("HTTP", "body parsing", "forward", "serialising", "framework")
CELLS = ("W1c1", "W1c16", "W1c64", "W2c4", "W3c16")
GOALS = {"W1c1": (2.0, 0.16), "W1c16": (2.5, 0.32), "W1c64": (2.0, 0.32), "W2c4": (2.0, 0.20), "W3c16": (1.7, 0.40)}
TAIL_CELL, TAIL = "W1c64", 5.0

INTRODUCTION = """# Performance

The service next to other model servers and to the limit of its own HTTP stack, on one machine and in one run.
`make bench-peers` writes this page; it needs `wrk` and the package registry, and sets each server up in an environment
of its own from the exact versions in `benchmarks/peers/*.txt`.

All serve the same network, `fashion-vae`'s reconstruction of 784 values (784-400-20), and have to give its answers
before they are measured: 64 different rows at once, and one by one with 16 at a time. Load comes from `wrk` with one
thread on the same cores. Every server has two workers where it has workers, one thread each, and runs with its dynamic
batching and without; the better of the two counts, cell by cell. How each is set up is in its file in
`benchmarks/peers/`. The service runs the bundle's ONNX, as it does by itself, the others the bundle's TorchScript, for
which they are made; so does the service in a line of its own below. The service counts its requests (`/metrics`) but
writes no line for each (`DIABOLO_LOG_LEVEL=warning`), nor do the others. Triton's version is that of nvidia-pytriton,
whose server has the Python backend alone. *Echo* is the limit: a bare ASGI application on the same HTTP stack, with two workers, that reads
the same requests and answers with as many bytes as the service.

| cell | a request | connections |
| --- | --- | --- |
| W1c1, W1c16, W1c64 | one row as JSON, 784 numbers | 1, 16, 64 |
| W2c4 | 64 rows as JSON | 4 |
| W3c16 | one row as float32 bytes: the Open Inference Protocol's binary tensors, both ways, or, where a server lacks them, the bare values | 16 |
"""  # noqa: E501

FINDINGS = """## What was tried, and what is left

Kept: the answer of a hot route passes no middleware and no dependency solver; numbers are read by simdjson and never
become Python objects; the batcher takes turns by callbacks. Together these took one row's request from 530 to 354
microseconds; metrics, keys, deadlines, the bounds of bodies and each request's timeline took some of these back, and
have to be there. Then errors and contiguity were worked out once for a batch, what a body may be once for a bundle, and
the extent of the rows by their parser: 123 microseconds instead of 145 at 64 connections, in turns with the earlier
code, beside other programs. With a garbage collector that comes seldom as well, which it may since failed requests
leave it nothing, 101 instead of 131, in turns on another occasion; the table above is of a third. Brackets of large
bodies are counted by numpy (64 rows read in 865 instead of 925 microseconds, one measurement on a busy machine).

Not kept: answers written past uvicorn's `send` in one piece (3 microseconds of 123, for twenty lines in the protocol);
a batch put together in a buffer that is used again (16 rows: 3.7 microseconds instead of 4.0; 64 rows: 14.4 instead of
14.0) and rows read into one (64 rows: 11.0 instead of 11.2), measured on a busy machine; an arena for each graph, which
took 570 MB instead of 210 and was no faster; `torch.jit.optimize_for_inference`, by which dense networks take 630 to
750 microseconds for 64 rows instead of 780 to 890 and the convolutional one 401 for one row instead of 312 (where ONNX
is there, it runs). Not tried: compiled programs, passes on reduced precision, an HTTP server other than uvicorn. No GPU
was at hand: pinned memory, CUDA graphs and lower precisions are neither built nor measured.

What is left of one row with ONNX: the forward pass reads 2.6 MB of weights at 20 GB/s, simdjson and orjson take 41 to
74 microseconds for 784 numbers, and uvicorn's protocol costs what it costs the echo. Of 64 rows with ONNX, reading
takes 29 %, printing 31 % and the forward pass 20 %. Where several share a pass, the framework is a third to a half of
what a request costs; cProfile shows no single call in it that takes more than a few microseconds. The load generator
and the kernel's sockets run on the same cores and are part of every figure: at 16 connections two cores spend 233
microseconds on each request, of which 143 are in the table. For 2.5 times the best peer these 143 would have to be 108,
where all but the framework take 91; for 1.7 times with tensors 82, where they take 66; for twice with 64 rows 2,820,
where they take 2,920.
"""


def write(results: dict[str, Any], docs: Path) -> None:
    """`docs`/performance.json, performance.md and pictures/performance.svg show `results`."""
    (docs / "pictures").mkdir(parents=True, exist_ok=True)
    (docs / "performance.json").write_text(json.dumps(results, indent=1) + "\n")
    (docs / "performance.md").write_text(page(results))
    _plot(results, docs / "pictures" / "performance.svg")


def page(results: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    survey = results["pace"]["survey"]
    duel = results["pace"]["duel"]
    parts = [
        INTRODUCTION,
        "## Against the best peer and the echo\n",
        f"{duel['rounds']} rounds of {duel['seconds']} s in each cell: the service between two measurements of the best"
        " peer and two of the echo, whose means count. Requests/s (p50, p99 in ms) are medians over the rounds, ratios"
        " the medians of each round's ratio.\n",
        _duels(results["duels"]),
        "## Every server\n",
        "![Requests per second over the echo's, by cell](pictures/performance.svg)\n",
        f"{survey['rounds']} rounds of {survey['seconds']} s, each between two of the echo. Requests/s (p50, p99 in"
        " ms), and the share of the echo's requests/s around them, which is what to compare: the machine moves between"
        " one server's turn and the next. The service's line is from the table above.\n",
        _servers(results),
        *_excuses(results["peers"]),
        "## Where the time of a request goes\n",
        "Microseconds of the processor, without sockets: uvicorn's protocol is handed the bytes of as many requests "
        "at once as one of the two workers has connections in the cell; each figure is one request's share. HTTP is "
        "what the echo costs in the service's place, the framework what the other stages leave over; medians (`python "
        "-m benchmarks.stages`). The goal is a framework's share of 20 % at most of W1.\n",
        _stages(results["stages"]),
        "## Forward passes alone\n",
        "Two processes that do nothing else, one thread each (`python -m benchmarks.forward`).\n",
        _forward(results["forward"]),
        FINDINGS,
        "## Setting\n",
        _setting(results),
    ]
    return "\n".join(parts)


def _duels(duels: dict[str, Any]) -> str:
    lines = [["cell", "service", "best peer", "echo", "of the best peer", "of the echo", "state"]]
    for cell, duel in duels.items():
        times, share = GOALS[cell]
        ours = duel["figures"]["ours"]
        held = duel["times_peer"] >= times and duel["of_echo"] >= share
        if cell == TAIL_CELL:
            held = held and ours["p99_ms"] <= TAIL * ours["p50_ms"]
        lines.append(
            [
                cell,
                _figure(ours),
                f"{duel['peer']}, {duel['variant']}: {_figure(duel['figures']['peer'])}",
                _figure(duel["figures"]["echo"]),
                f"{duel['times_peer']:.2f}x (goal {times}x)",
                f"{duel['of_echo']:.2f} (goal {share:.2f})",
                "holds" if held else "**missed**",
            ]
        )
    return _table(lines) + f"\nThe goal of {TAIL_CELL} has a third part: p99 within {TAIL:.0f} times p50.\n"


def _servers(results: dict[str, Any]) -> str:
    duels = results["duels"]
    lines = [["server", "version", *CELLS, "memory, MiB"]]
    ours = [(duels[cell]["figures"]["ours"], duels[cell]["of_echo"]) if cell in duels else None for cell in CELLS]
    shown = ["-" if cell is None else f"{_figure(cell[0])} {cell[1]:.2f}" for cell in ours]
    version = results["machine"]["packages"]["diabolo"]
    lines.append(["**this service**", version, *shown, str(results["memory_mib"])])
    same = results["by_torchscript"]
    lines.append(["this service, by TorchScript", version, *_shares(same["cells"]), str(same["memory_mib"])])
    for peer in results["peers"]:
        told = peer["versions"].get(peer["package"], "-")
        cells = [_best(peer, cell) for cell in CELLS]
        memory = [variant["memory_mib"] for variant in peer["variants"] if "memory_mib" in variant]
        lines.append([peer["title"], told, *cells, "-" if not memory else _span(memory)])
    return _table(lines)


def _shares(cells: dict[str, Any]) -> list[str]:
    return [f"{_figure(cells[cell])} {cells[cell]['of_echo']:.2f}" if cell in cells else "-" for cell in CELLS]


def _best(peer: dict[str, Any], cell: str) -> str:
    """The better variant's figures, and which it is where there are several."""
    found = [(v["cells"][cell], v["name"]) for v in peer["variants"] if cell in v["cells"]]
    if not found:
        return "-"
    figures, name = max(found, key=lambda entry: float(entry[0]["requests_per_second"]))
    return f"{_figure(figures)} {figures['of_echo']:.2f}" + (f", {name}" if len(peer["variants"]) > 1 else "")


def _stages(stages: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [["cell", "runtime", *STAGES, "total", "framework's share"]]
    for cell, runtimes in stages.items():
        for runtime, spent in runtimes.items():
            figures = [f"{spent[stage]:.0f}" for stage in (*STAGES, "total")]
            lines.append([cell, runtime, *figures, f"{spent['framework'] / spent['total']:.0%}"])
    return _table(lines)


def _forward(forward: dict[str, int]) -> str:
    return _table([["rows in a batch", *map(str, forward)], ["rows/s", *map(str, forward.values())]])


def _excuses(peers: list[dict[str, Any]]) -> list[str]:
    """What is missing above, and why."""
    lines = [f"- {peer['title']} is not there: {_plain(peer['absent'])}" for peer in peers if "absent" in peer]
    for peer in peers:
        for variant in peer["variants"]:
            if "refused" in variant:
                lines.append(f"- {peer['title']}, {variant['name']}, was refused: {_plain(variant['refused'])}")
    if without := [peer["title"] for peer in peers if "absent" not in peer and not peer["binary"]]:
        lines.append(f"- No binary tensors over HTTP, so no W3c16: {', '.join(without)}.")
    return ["\n".join(lines) + "\n"] if lines else []


def _setting(results: dict[str, Any]) -> str:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"- {results['date']}; {machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB,"
        f" {machine['system']}, Python {machine['python']}, {machine['load']}",
        f"- this service and the echo: {packages}; runtime {results['runtime']}, two workers",
    ]
    for peer in results["peers"]:
        versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
        lines.append(f"- {peer['title']}: {versions or 'not installed'}")
    return "\n".join(lines) + "\n"


def _table(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest]]) + "\n"


def _figure(measured: dict[str, float]) -> str:
    return f"{measured['requests_per_second']:.0f} ({measured['p50_ms']:.1f}, {measured['p99_ms']:.1f})"


def _span(figures: list[float]) -> str:
    low, high = min(figures), max(figures)
    return f"{low}" if low == high else f"{low} to {high}"


def _plain(reason: str) -> str:
    """A foreign text that cannot break the page."""
    return " ".join(reason.split()).replace("|", "/").replace("<", "&lt;")


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "diabolo"  # the same picture for the same figures
    shares = {"this service": [results["duels"].get(cell, {}).get("of_echo", 0.0) for cell in CELLS]}
    for peer in results["peers"]:
        best = [[v["cells"][cell]["of_echo"] for v in peer["variants"] if cell in v["cells"]] for cell in CELLS]
        if any(best):
            shares[peer["title"]] = [max(found, default=0.0) for found in best]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    width = 0.85 / len(shares)
    for index, (name, heights) in enumerate(shares.items()):
        places = [cell + (index - len(shares) / 2 + 0.5) * width for cell in range(len(CELLS))]
        axes.bar(places, heights, width, label=name, color="black" if index == 0 else None)
    axes.set(ylabel="requests/s over the echo's")
    axes.set_xticks(range(len(CELLS)), CELLS)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize="small", ncols=2)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
