"""`diabolo train`: a recipe trained and published as a bundle."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    recipe: Annotated[str | None, typer.Argument(help="What to train; without it the recipes are listed.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name. (default: the recipe's)")] = None,
    models_dir: Annotated[
        Path, typer.Option(envvar="DIABOLO_MODELS_DIR", help="The folder that the bundle goes to.")
    ] = Path("models"),
    data_dir: Annotated[
        Path, typer.Option(envvar="DIABOLO_DATA_DIR", help="The folder that data sets are looked for in, and put.")
    ] = Path("data"),
    seed: Annotated[int | None, typer.Option(min=0, help="Decides everything random. (default: the recipe's)")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at most. (default: the recipe's)")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or auto: a GPU if there is one. (default: cpu)")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="32, bf16-mixed or 16-mixed. (default: 32)")] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Devices that share each batch. (default: 1)")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines with so many devices each. (default: 1)")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of going on with a stopped run.")] = False,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and do nothing else.")] = False,
) -> None:
    """Train a recipe and publish it as the next version of a bundle."""
    try:
        hardware = {"device": device, "precision": precision, "devices": devices, "nodes": nodes}
        _train(recipe if not list_recipes else None, name, models_dir, data_dir, seed, epochs, hardware, fresh)
    except KeyboardInterrupt:
        _stop("stopped; the same command goes on after the last whole epoch, --fresh starts over", code=130)
    except OSError as error:
        _stop(f"the disk refuses: {error}")


def _train(
    recipe: str | None,
    name: str | None,
    models_dir: Path,
    data_dir: Path,
    seed: int | None,
    epochs: int | None,
    hardware: dict[str, str | int | None],
    fresh: bool,
) -> None:
    from training.recipes import RECIPES

    if recipe is None:
        for known, function in RECIPES.items():
            typer.echo(f"{known:20}{(function.__doc__ or '').splitlines()[0]}")
        return
    if recipe not in RECIPES:
        _stop(f"no recipe is called {recipe!r}; there are {', '.join(RECIPES)}", code=2)

    from dataclasses import asdict, replace

    from rich.console import Console

    from training.errors import TrainingError
    from training.hardware import Hardware
    from training.progress import shown
    from training.publish import Places, publish

    config = RECIPES[recipe]()
    chosen = {option: value for option, value in hardware.items() if value is not None}
    options = {"--name": name, "--seed": seed, "--epochs": epochs, **{f"--{o}": value for o, value in chosen.items()}}
    command = ["diabolo", "train", recipe, *(w for key, v in options.items() if v is not None for w in (key, str(v)))]
    if seed is not None:
        config = replace(config, seed=seed)
    if epochs is not None:
        config = replace(config, fitting=replace(config.fitting, epochs=epochs))
    if chosen:
        used = Hardware(**{**asdict(config.fitting.hardware), **chosen})
        config = replace(config, fitting=replace(config.fitting, hardware=used))
    places = Places(models=models_dir, data=data_dir, runs=Path("runs"))
    try:
        with shown(Console(quiet=not config.fitting.hardware.is_first), epochs=config.fitting.epochs) as on_epoch:
            done = publish(config, places, name=name, command=shlex.join(command), fresh=fresh, on_epoch=on_epoch)
    except TrainingError as error:
        _stop(str(error))

    typer.echo(f"\nPublished {os.path.relpath(done.path)}  (preview.png and CARD.md show it, losses in {done.run})")
    for figure, value in done.manifest.metrics.items():
        typer.echo(f"  {figure:28}{value:.5g}")
    server = f"http://127.0.0.1:8000/v1/models/{done.manifest.name}"
    typer.echo("\nNext: `make serve`, and in another terminal a test picture through it and back:")
    typer.echo(f"  curl -s -H 'Accept: image/png' {server}/examples/4 | curl -s -H 'Content-Type: image/png' \\")
    typer.echo(f"    -H 'Accept: image/png' --data-binary @- {server}/reconstruct -o reconstruction.png")


def _stop(reason: str, *, code: int = 1) -> None:
    typer.echo(f"diabolo train: {reason}", err=True)
    raise typer.Exit(code)
