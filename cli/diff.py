"""`diabolo diff`: what would change if one bundle took the place of another, on the user's own rows."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["diff"]

TOO_MANY_FLIPS = 3


def diff(
    a: Annotated[str, typer.Argument(help="A bundle: its name (the newest version), name/version, or its folder.")],
    b: Annotated[str, typer.Argument(help="The bundle that would take its place.")],
    data: Annotated[
        Path, typer.Option(help="The rows: .npy, .npz, .csv, .parquet, or a folder of pictures.", show_default=False)
    ],
    alpha: Annotated[
        list[float] | None, typer.Option(help="Verdicts at this alpha too, besides the default one. Repeatable.")
    ] = None,
    fail_above_flips: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit code 3 when a larger share of the verdicts flips.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    models_dir: Annotated[Path, typer.Option(envvar="DIABOLO_MODELS_DIR", help="The folder of bundles.")] = Path(
        "models"
    ),
    runtime: Annotated[
        Literal["auto", "torchscript", "onnx"], typer.Option(envvar="DIABOLO_RUNTIME", help="As for the service.")
    ] = "auto",
    device: Annotated[str, typer.Option(envvar="DIABOLO_DEVICE", help="As for the service.")] = "auto",
) -> None:
    """Compare two bundles on your own rows: scores, verdicts, thresholds, p-values and errors."""
    from cli.comparison import compare
    from cli.comparison_page import document, page
    from cli.judge import NotComparable, alphas_of, common_input, find_bundle, open_judge
    from cli.rows import RowsInvalid, range_warning, read_rows
    from service.engine.runtimes.selection import runtime_opener
    from service.machine import check_installed

    check_installed(runtime)
    open_runtime = runtime_opener(runtime, device=device)
    try:
        first, second = (open_judge(find_bundle(text, models_dir), open_runtime) for text in (a, b))
        spec = common_input(first, second)
        alphas = alphas_of(first, second, alpha or [])
        rows = read_rows(data, spec)
        if warning := range_warning(rows, spec):
            typer.echo(f"diabolo diff: {warning}", err=True)
        kinds = {judge.bundle.manifest.score.kind for judge in (first, second)}
        found = compare(first.judge(rows), second.judge(rows), alphas=alphas, same_kind=len(kinds) == 1)
    except (NotComparable, RowsInvalid) as error:
        typer.echo(f"diabolo diff: {error}", err=True)
        raise typer.Exit(1) from None
    shown = json.dumps(document(first, second, found), indent=2) if as_json else page(first, second, found)
    typer.echo(shown)
    if fail_above_flips is not None and any(at.flips > fail_above_flips for at in found.verdicts):
        typer.echo(f"diabolo diff: more than {fail_above_flips:.4g} of the verdicts flip", err=True)
        raise typer.Exit(TOO_MANY_FLIPS)
