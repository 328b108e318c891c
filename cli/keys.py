"""`diabolo keys`: the file of API keys."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

KeysFile = Annotated[Path, typer.Option(envvar="DIABOLO_API_KEYS_FILE", help="The file of keys.", show_default=False)]
Name = Annotated[str, typer.Argument(help="What the key is called, in lists and in the log.")]

app = typer.Typer(help="Make, list and remove the API keys of the service.", no_args_is_help=True)


@app.command()
def add(
    name: Name,
    keys_file: KeysFile,
    scope: Annotated[
        list[str] | None, typer.Option(metavar="infer|admin|metrics", help="What it is for. Repeatable.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests per second, in each worker process; none: no limit.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="Requests at once after a pause; by default those of one second.")
    ] = None,
) -> None:
    """Make a key and print it, this once: the file keeps only its SHA-256. Without --scope it may infer."""
    from service.keys import KeyFile, KeyScope, Rate

    if burst is not None and rate is None:
        raise typer.BadParameter("--burst needs --rate")
    if rate is not None and not math.isfinite(rate):
        raise typer.BadParameter("--rate must be a finite number")
    for unknown in set(scope or ()) - set(KeyScope):
        raise typer.BadParameter(f"--scope: {unknown} is none of {', '.join(KeyScope)}")
    allowed = None if rate is None else Rate(requests_per_second=rate, burst=burst or max(1, round(rate)))
    with _said("add"):
        key = KeyFile(keys_file).add(name, scopes=[KeyScope(one) for one in scope or ["infer"]], rate=allowed)
    typer.echo(key)


@app.command(name="list")
def list_keys(keys_file: KeysFile) -> None:
    """Names, scopes and rates."""
    from service.keys import KeyFile

    with _said("list"):
        found = KeyFile(keys_file).read()
    for key in found.keyring.keys:
        rate = f"  {key.rate.requests_per_second:g}/s, burst {key.rate.burst}" if key.rate else ""
        typer.echo(f"{key.name:32} {', '.join(sorted(key.scopes))}{rate}")


@app.command()
def remove(name: Name, keys_file: KeysFile) -> None:
    """Let a key open nothing any more. Running services know in DIABOLO_POLL_SECONDS."""
    from service.keys import KeyFile

    with _said("remove"):
        KeyFile(keys_file).remove(name)
    typer.echo(f"{name}: removed")


@contextlib.contextmanager
def _said(command: str) -> Iterator[None]:
    """What is impossible is said in one line, with exit code 1."""
    from service.keys import KeyFileDamaged

    try:
        yield
    except (KeyFileDamaged, ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        typer.echo(f"diabolo keys {command}: {reason}", err=True)
        raise typer.Exit(1) from None
