"""`diabolo sign`: signatures of bundles, by a key of one's own."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sign"]


def sign(
    paths: Annotated[list[Path], typer.Argument(help="Folders <name>/<version>.")],
    key: Annotated[Path, typer.Option(help="The private key: PEM, elliptic curve P-256, P-384 or P-521.")],
    password: Annotated[
        str | None, typer.Option(envvar="DIABOLO_KEY_PASSWORD", help="Of the key, if it has one.", show_envvar=True)
    ] = None,
) -> None:
    """Sign bundles, once they are found to be sound. A service with DIABOLO_REQUIRE_SIGNATURE loads nothing else."""
    import os

    from bundle.errors import BundleError
    from bundle.manifest import SIGNATURE_FILE
    from bundle.read import read_bundle
    from service.engine import signatures

    for folder in paths:
        folder = folder.resolve()
        label = f"{folder.parent.name}/{folder.name}"
        unfinished = folder.parent / f".{folder.name}.{SIGNATURE_FILE}.{os.getpid()}"  # no part of a bundle, there
        try:
            bundle = read_bundle(folder)
            signatures.sign(folder, bundle.hashes, key=key, to=unfinished, password=password)
            unfinished.replace(folder / SIGNATURE_FILE)
        except BundleError as error:
            typer.echo(f"{label} is not signed: {error.reason}: {error}", err=True)
            raise typer.Exit(1) from None
        except (signatures.KeyUnusable, OSError) as error:
            typer.echo(f"{label} is not signed: {error}", err=True)
            raise typer.Exit(1) from None
        finally:
            unfinished.unlink(missing_ok=True)
        typer.echo(f"{label}: signed, digest {bundle.digest[:12]}")
