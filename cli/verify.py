"""`diabolo verify`: whether bundles are sound."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["verify"]


def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders <name>/<version>; all of the models folder if none.")
    ] = None,
    models_dir: Annotated[Path, typer.Option(envvar="DIABOLO_MODELS_DIR", help="The folder of bundles.")] = Path(
        "models"
    ),
    require_signature: Annotated[
        Path | None,
        typer.Option(envvar="DIABOLO_REQUIRE_SIGNATURE", help="The public key that bundles must be signed with."),
    ] = None,
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

    check_signature = None
    if require_signature is not None:
        from service.engine import signatures

        try:
            check_signature = signatures.require_signature(require_signature)
        except signatures.KeyUnusable as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
    sound = True
    if not paths and not models_dir.is_dir():
        typer.echo(f"there is no folder {models_dir}", err=True)
        raise typer.Exit(1)
    for folder in paths or [location.path for location in scan(models_dir)]:
        folder = folder.resolve()
        label = f"{folder.parent.name}/{folder.name}"
        try:
            bundle = read_bundle(folder, check_signature=check_signature)
            signed = ", signed" if check_signature is not None else ""
            typer.echo(f"{label}: sound{signed}, digest {bundle.digest[:12]}{check(bundle)}")
        except BundleError as error:
            sound = False
            typer.echo(f"{label}: {error.reason}: {error}")
        except OSError as error:
            sound = False
            typer.echo(f"{label}: unreadable: {error.strerror}")
    if not sound:
        raise typer.Exit(1)
