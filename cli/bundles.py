"""`diabolo models` and `diabolo verify`: what is in the folder of bundles, and whether it is sound."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["models", "verify"]

ModelsDir = Annotated[Path, typer.Option(envvar="DIABOLO_MODELS_DIR", help="The folder of bundles.")]


def models(models_dir: ModelsDir = Path("models")) -> None:
    """List the bundles of a folder."""
    from bundle.errors import BundleError
    from bundle.read import read_bundle, scan

    if not models_dir.is_dir():
        typer.echo(f"there is no folder {models_dir}", err=True)
        raise typer.Exit(1)
    for location in scan(models_dir):
        label = f"{location.name}/{location.version}"
        try:
            bundle = read_bundle(location.path)
        except (BundleError, OSError) as error:
            typer.echo(f"{label:32} REFUSED: {error}")
            continue
        operations = ", ".join(operation.path for operation in bundle.manifest.operations)
        typer.echo(f"{label:32} {bundle.manifest.family:12} {bundle.digest[:12]}  {operations}")


def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders <name>/<version>; all of the models folder if none.")
    ] = None,
    models_dir: ModelsDir = Path("models"),
    replay: Annotated[
        bool, typer.Option(help="Also run each artefact on the golden probe, in every runtime installed.")
    ] = True,
) -> None:
    """Check bundles in full; exit code 1 if any is not sound."""
    from bundle.errors import BundleError
    from bundle.read import Bundle, read_bundle, scan

    def check(bundle: Bundle) -> str:
        if not replay:
            return ""
        from service.engine.runtimes.selection import runtime_opener, runtimes_of

        replayed = []
        for name in runtimes_of(bundle):
            runtime = runtime_opener(name, device="auto")(bundle)
            replayed.append(f"on {runtime.device} in {name} within {bundle.golden.replay(runtime.run):.1e}")
        return f", replayed {', '.join(replayed)}"

    sound = True
    if not paths and not models_dir.is_dir():
        typer.echo(f"there is no folder {models_dir}", err=True)
        raise typer.Exit(1)
    for folder in paths or [location.path for location in scan(models_dir)]:
        folder = folder.resolve()
        label = f"{folder.parent.name}/{folder.name}"
        try:
            bundle = read_bundle(folder)
            typer.echo(f"{label}: sound, digest {bundle.digest[:12]}{check(bundle)}")
        except BundleError as error:
            sound = False
            typer.echo(f"{label}: {error.reason}: {error}")
        except OSError as error:
            sound = False
            typer.echo(f"{label}: unreadable: {error.strerror}")
    if not sound:
        raise typer.Exit(1)
