"""`diabolo models`: what is in the folder of bundles, and which of it is wanted."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bundle.read import Bundle
    from service.engine.desired import StateFile

__all__ = ["app"]

Name = Annotated[str, typer.Argument(help="The name of a bundle.")]
ModelsDir = Annotated[Path, typer.Option(envvar="DIABOLO_MODELS_DIR", help="The folder of bundles.")]
StateDir = Annotated[
    Path | None, typer.Option(envvar="DIABOLO_STATE_DIR", help="The folder in which the service keeps what is wanted.")
]
Runtime = Annotated[
    Literal["auto", "torchscript", "onnx"], typer.Option(envvar="DIABOLO_RUNTIME", help="As for the service.")
]
Device = Annotated[str, typer.Option(envvar="DIABOLO_DEVICE", help="As for the service.")]
Signature = Annotated[
    Path | None,
    typer.Option("--require-signature", envvar="DIABOLO_REQUIRE_SIGNATURE", help="As for the service."),
]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until all workers have acknowledged.")]
ASK_SECONDS = 0.05

app = typer.Typer(help="List the bundles of a folder; pin, load and unload them in a running service.")


@app.callback(invoke_without_command=True)
def models(context: typer.Context, models_dir: ModelsDir = Path("models"), state_dir: StateDir = None) -> None:
    """List the bundles of a folder; pin, load and unload them in a running service."""
    from bundle.errors import BundleError
    from bundle.read import read_bundle, scan

    if context.invoked_subcommand is not None:
        return
    if not models_dir.is_dir():
        typer.echo(f"there is no folder {models_dir}", err=True)
        raise typer.Exit(1)
    with _said(""):
        marks = _marks(state_dir)
    for location in scan(models_dir):
        label = f"{location.name}/{location.version}"
        try:
            bundle = read_bundle(location.path)
        except (BundleError, OSError) as error:
            typer.echo(f"{label:32} REFUSED: {error}")
            continue
        operations = ", ".join(operation.path for operation in bundle.manifest.operations)
        mark = marks(location.name, location.version)
        typer.echo(f"{label:32} {bundle.manifest.family:12} {bundle.digest[:12]}  {operations}{mark}")


@app.command()
def pin(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version that is to answer where none is named.")],
    state_dir: StateDir = None,
    models_dir: ModelsDir = Path("models"),
    runtime: Runtime = "auto",
    device: Device = "auto",
    require_signature: Signature = None,
    wait: Wait = 10,
) -> None:
    """Let a version answer, whatever is published later. It is proven first. So one rolls back."""
    with _said(" pin"):
        state = _state(state_dir)
        _prove(models_dir, name, [version], runtime=runtime, device=device, signed_by=require_signature)
        desired = state.change(name, lambda wish: wish.pin(version))
        _report(state, name, desired.revision, done=f"version {version} is pinned", wait=wait)


@app.command()
def unpin(name: Name, state_dir: StateDir = None, models_dir: ModelsDir = Path("models"), wait: Wait = 10) -> None:
    """Let the newest version answer again."""
    with _said(" unpin"):
        state = _state(state_dir)
        _known(state, models_dir, name)
        desired = state.change(name, lambda wish: wish.unpin())
        _report(state, name, desired.revision, done="no version is pinned, the newest answers", wait=wait)


@app.command()
def load(
    name: Name,
    state_dir: StateDir = None,
    models_dir: ModelsDir = Path("models"),
    runtime: Runtime = "auto",
    device: Device = "auto",
    require_signature: Signature = None,
    wait: Wait = 10,
) -> None:
    """Serve a bundle again that was unloaded. If a version is pinned, it stays so."""
    with _said(" load"):
        state = _state(state_dir)
        pinned = state.read().of(name).pinned
        versions = [pinned] if pinned else _versions(models_dir, name)[::-1]
        _prove(models_dir, name, versions, runtime=runtime, device=device, signed_by=require_signature)
        desired = state.change(name, lambda wish: wish.load())
        _report(state, name, desired.revision, done="it is loaded", wait=wait)


@app.command()
def unload(name: Name, state_dir: StateDir = None, models_dir: ModelsDir = Path("models"), wait: Wait = 10) -> None:
    """Take all versions of a bundle out of memory. It is not found until it is loaded again."""
    with _said(" unload"):
        state = _state(state_dir)
        _known(state, models_dir, name)
        desired = state.change(name, lambda wish: wish.unload())
        _report(state, name, desired.revision, done="it is unloaded", wait=wait)


class _Impossible(Exception):
    """What was asked for cannot be; nothing has changed."""


@contextlib.contextmanager
def _said(command: str) -> Iterator[None]:
    """What is impossible is said in one line, with exit code 1."""
    from service.errors import ServiceError

    try:
        yield
    except (_Impossible, ServiceError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        typer.echo(f"diabolo models{command}: {reason}", err=True)
        raise typer.Exit(1) from None


def _state(folder: Path | None) -> "StateFile":
    from service.engine.desired import StateFile

    if folder is None:
        raise _Impossible("name the service's folder of state: --state-dir, or DIABOLO_STATE_DIR")
    if not folder.is_dir():
        raise _Impossible(f"there is no folder {folder}; the service makes it when it starts with DIABOLO_STATE_DIR")
    return StateFile(folder)


def _versions(models_dir: Path, name: str) -> list[int]:
    """Of `name` in the folder, ascending, at least one. Raises _Impossible, or OSError where there is no folder."""
    from bundle.read import scan

    locations = scan(models_dir)
    versions = [location.version for location in locations if location.name == name]
    if not versions:
        names = ", ".join(sorted({location.name for location in locations})) or "none at all"
        raise _Impossible(f"there is no bundle {name} in {models_dir}; there is {names}")
    return versions


def _known(state: "StateFile", models_dir: Path, name: str) -> None:
    """Returns unless the name is neither in the folder nor in what is wanted."""
    if name not in state.read().models:
        _versions(models_dir, name)


def _reader(signed_by: Path | None) -> "Callable[[Path], Bundle]":
    """What reads bundles as a service does that requires signatures by this key. Raises _Impossible."""
    from bundle.read import read_bundle

    if signed_by is None:
        return read_bundle
    from service.engine.signatures import KeyUnusable, require_signature

    try:
        return partial(read_bundle, check_signature=require_signature(signed_by))
    except KeyUnusable as error:
        raise _Impossible(str(error)) from None


def _prove(
    models_dir: Path, name: str, versions: list[int], *, runtime: Runtime, device: str, signed_by: Path | None
) -> None:
    """One of the versions can be served, for all that can be told here. Raises _Impossible."""
    from bundle.errors import BundleError
    from service.engine.loaded import prove
    from service.engine.runtimes.selection import runtime_opener

    read = _reader(signed_by)
    there = _versions(models_dir, name)
    reasons = []
    for version in versions:
        if version not in there:
            raise _Impossible(f"{name} has no version {version}; it has {', '.join(map(str, there))}")
        folder = models_dir.resolve() / name / str(version)
        try:
            prove(partial(read, folder), runtime_opener(runtime, device=device))
        except BundleError as error:
            reasons.append(f"version {version}: {error.reason}: {error}")
        except ModuleNotFoundError:
            raise
        except Exception as error:  # a runtime may raise anything, and the service would refuse the version too
            reasons.append(f"version {version}: runtime-failed: {error}")
        else:
            return
    raise _Impossible(f"{name} cannot be served; {'; '.join(reasons)}")


def _report(state: "StateFile", name: str, revision: int, *, done: str, wait: float) -> None:
    """All live workers serve the name so, which is said; exit code 2 if they do not in time."""
    from service.engine.acknowledgements import acknowledgements, pending

    deadline = time.monotonic() + wait
    while (waiting := pending(state.folder, name, revision=revision)) and time.monotonic() < deadline:
        time.sleep(ASK_SECONDS)
    for worker, reason in sorted(waiting.items()):
        typer.echo(f"{name}: not in force yet in {worker}: {reason}", err=True)
    if waiting:
        raise typer.Exit(2)
    workers = len(acknowledgements(state.folder))
    where = f"in {workers} worker{'s' if workers > 1 else ''}" if workers else "from the next start of the service"
    typer.echo(f"{name}: {done}, {where}")


def _marks(state_dir: Path | None) -> Callable[[str, int], str]:
    """What is wanted of a version, to be shown beside it."""
    if state_dir is None:
        return lambda _name, _version: ""
    from service.engine.desired import StateFile

    desired = StateFile(state_dir).read()

    def mark(name: str, version: int) -> str:
        wish = desired.of(name)
        return "  (unloaded)" if wish.unloaded else "  (pinned)" if wish.pinned == version else ""

    return mark
