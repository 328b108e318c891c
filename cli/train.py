"""`diabolo train`: a recipe, or the user's own data, trained and published as a bundle."""

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from training.config import Config
    from training.dataset import DataSet
    from training.publish import Published

__all__ = ["train"]

RUNS = Path("runs")
OWN_DATA = "Your own data"
OWN_OPTIONS = (
    "family", "latent", "hidden", "image_size", "colour", "label", "drop", "beta", "noise", "trim", "exponent",
    "score",
)  # fmt: skip
PASSING = ("models_dir", "data_dir", "fresh")  # what comes out does not depend on them


def train(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="What to train; without it the recipes are listed.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a recipe: a folder of pictures, .npy, .npz, .csv or .parquet.", rich_help_panel=OWN_DATA
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="linear, vanilla, denoising, k-sparse, sparse, contractive, variational. (default: variational)",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    latent: Annotated[
        int | None, typer.Option(min=1, help="Values in a code. (default: 8)", rich_help_panel=OWN_DATA)
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(help="Widths of the encoder's hidden layers: 256,64, or 0 for none.", rich_help_panel=OWN_DATA),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Height x width, as in 48x64, or one number for both. (default: the most common one, 64 at most)",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    colour: Annotated[
        bool | None,
        typer.Option("--colour/--grey", help="(default: colour if any picture is)", rich_help_panel=OWN_DATA),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="A table's column with labels, which serve evaluation only.", rich_help_panel=OWN_DATA),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out instead of refusing: text or constant columns, rows with missing values. Repeatable.",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="The weight of a variational code's divergence.",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="The standard deviation of a denoising run's noise.", rich_help_panel=OWN_DATA),
    ] = None,
    trim: Annotated[
        float | None,
        typer.Option(
            help="The share of each batch, the worst of it, that is not learnt from: for contaminated data.",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    exponent: Annotated[
        float | None,
        typer.Option(
            help="Pictures are judged as their values to this power. (default: 1; grey variational ones 1/3)",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="The anomaly score. (default: reconstruction_error; of variational pictures negative_elbo)",
            rich_help_panel=OWN_DATA,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name. (default: the recipe's, or the data's)")] = None,
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
    """Train a recipe, or on your own data, and publish the next version of a bundle."""
    given = _given(context)
    if data is not None and recipe is not None:
        _stop(f"the recipe {recipe!r} has its own data; give a recipe or --data", code=2)
    if data is None and given.keys() & set(OWN_OPTIONS):
        options = ", ".join(f"--{option.replace('_', '-')}" for option in OWN_OPTIONS if option in given)
        _stop(f"{options} goes with --data; a recipe decides that itself", code=2)
    if list_recipes or (recipe is None and data is None):
        _list()
        return
    try:
        _train(given, models_dir=models_dir, data_dir=data_dir, fresh=fresh, command=_command(context))
    except KeyboardInterrupt:
        _stop("stopped; the same command goes on after the last whole epoch, --fresh starts over", code=130)
    except OSError as error:
        _stop(f"the disk refuses: {error}")


def _train(given: dict[str, Any], *, models_dir: Path, data_dir: Path, fresh: bool, command: str) -> None:
    from rich.console import Console

    from training.errors import TrainingError
    from training.hardware import flush_denormals
    from training.progress import shown
    from training.publish import Places, publish

    flush_denormals()
    places = Places(models=models_dir, data=data_dir, runs=RUNS)
    try:
        config, data = _own(given) if "data" in given else (_recipe(given), None)
        config = _on_hardware(config, given)
        with shown(Console(quiet=not config.fitting.hardware.is_first), epochs=config.fitting.epochs) as on_epoch:
            done = publish(
                config, places, data=data, name=given.get("name"), command=command, fresh=fresh, on_epoch=on_epoch
            )
    except TrainingError as error:
        _stop(str(error))
    _tell(done)


def _list() -> None:
    from training.recipes import RECIPES

    for known, function in RECIPES.items():
        typer.echo(f"{known:24}{(function.__doc__ or '').splitlines()[0]}")


def _recipe(given: dict[str, Any]) -> "Config":
    """What the recipe says, but for the seed and the epochs that were given."""
    from dataclasses import replace

    from training.recipes import RECIPES

    if given["recipe"] not in RECIPES:
        _stop(f"no recipe is called {given['recipe']!r}; there are {', '.join(RECIPES)}", code=2)
    config = RECIPES[given["recipe"]]()
    fitting = replace(config.fitting, epochs=given.get("epochs", config.fitting.epochs))
    return replace(config, seed=given.get("seed", config.seed), fitting=fitting)


def _own(given: dict[str, Any]) -> "tuple[Config, DataSet]":
    """The run on the user's own data, and these."""
    from dataclasses import fields

    from training.defaults import Choices, configuration
    from training.sources.files import Files

    path: Path = given["data"]
    name = given.get("name") or re.sub(r"[^a-z0-9]+", "-", path.resolve().name.partition(".")[0].lower()).strip("-")
    colours: dict[bool | None, Literal["grey", "colour"] | None] = {True: "colour", False: "grey", None: None}
    files = Files(
        path=str(path),
        image_size=_size(given["image_size"]) if "image_size" in given else None,
        colours=colours[given.get("colour")],
        label=given.get("label"),
        drop=tuple(given.get("drop", ())),
    )
    chosen = {field.name: given[field.name] for field in fields(Choices) if field.name in given}
    if "hidden" in chosen:
        chosen["hidden"] = _widths(chosen["hidden"])
    return configuration(files, Choices(**chosen), name=name, folder=RUNS)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        _stop(f"--image-size is height x width, as in 48x64, or one number for both, not {text!r}", code=2)
    return int(found[1]), int(found[2] or found[1])


def _widths(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        _stop(f"--hidden is the widths of layers, as in 256,64, or 0 for none, not {text!r}", code=2)
    return () if text == "0" else tuple(map(int, text.split(",")))


def _on_hardware(config: "Config", given: dict[str, Any]) -> "Config":
    from dataclasses import replace

    chosen = {option: given[option] for option in ("device", "precision", "devices", "nodes") if option in given}
    used = replace(config.fitting.hardware, **chosen)
    return replace(config, fitting=replace(config.fitting, hardware=used))


def _tell(done: "Published") -> None:
    """Where the bundle is, how good it is, and what to do with it."""
    typer.echo(f"\nPublished {os.path.relpath(done.path)}  (CARD.md tells about it, losses in {done.run})")
    for figure, value in done.manifest.metrics.items():
        typer.echo(f"  {figure:28}{value:.5g}")
    server = f"http://127.0.0.1:8000/v1/models/{done.manifest.name}"
    if done.manifest.input.image is None:
        typer.echo("\nNext: `make serve`, and in another terminal a test row through it:")
        typer.echo(f"  curl -s {server}/examples/4 | curl -s --data-binary @- {server}/anomaly-score")
        return
    typer.echo("\nNext: `make serve`, and in another terminal a test picture through it and back:")
    typer.echo(f"  curl -s -H 'Accept: image/png' {server}/examples/4 | curl -s -H 'Content-Type: image/png' \\")
    typer.echo(f"    -H 'Accept: image/png' --data-binary @- {server}/reconstruct -o reconstruction.png")


def _given(context: typer.Context) -> dict[str, Any]:
    """What was said on the command line, by the names of the parameters."""
    values: dict[str, Any] = context.params
    return {name: value for name, value in values.items() if _is_given(context, name)}


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _command(context: typer.Context) -> str:
    """How to do the same again, anywhere."""
    words = ["diabolo", "train"]
    given = _given(context)
    for parameter in context.command.params:
        value = given.get(parameter.name or "")
        if value is None or parameter.name in PASSING:
            continue
        if parameter.param_type_name == "argument":
            words.append(value)
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            words += [
                word
                for one in (value if isinstance(value, list | tuple) else [value])
                for word in (parameter.opts[0], str(one))
            ]
    return shlex.join(words)


def _stop(reason: str, *, code: int = 1) -> NoReturn:
    typer.echo(f"diabolo train: {reason}", err=True)
    raise typer.Exit(code)
