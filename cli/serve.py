"""`diabolo serve`: the service, with its settings from the environment."""

import json
import logging
from typing import Annotated

import typer

__all__ = ["openapi", "serve"]

logger = logging.getLogger("diabolo")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; wins over DIABOLO_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; wins over DIABOLO_PORT.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; wins over DIABOLO_WORKERS and WEB_CONCURRENCY.")
    ] = None,
    show_settings: Annotated[bool, typer.Option("--show-settings", help="Print the settings and stop.")] = False,
) -> None:
    """Serve the bundles in DIABOLO_MODELS_DIR until SIGTERM or Ctrl-C."""
    from pydantic import ValidationError

    from service.logs import configure_logs
    from service.settings import Settings, warn_of_unknown_variables

    options = {"host": host, "port": port, "workers": workers}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # checked by the model itself
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            variable = f"DIABOLO_{str(fault['loc'][0]).upper()}: " if fault["loc"] else ""
            typer.echo(f"{variable}{fault['msg'].removeprefix('Value error, ')}", err=True)
        raise typer.Exit(1) from None
    if show_settings:
        for name, value in json.loads(settings.model_dump_json()).items():
            typer.echo(f"DIABOLO_{name.upper()}={value}  # {Settings.model_fields[name].description}")
        return

    configure_logs(settings)
    warn_of_unknown_variables()
    if not settings.models_dir.is_dir():
        typer.echo(f"DIABOLO_MODELS_DIR: there is no folder {settings.models_dir}", err=True)
        raise typer.Exit(1)
    if settings.state_dir is not None:
        try:
            settings.state_dir.mkdir(exist_ok=True)
        except OSError as error:
            reason = (error.strerror or "").lower()
            typer.echo(f"DIABOLO_STATE_DIR: {settings.state_dir} cannot be used: {reason}", err=True)
            raise typer.Exit(1) from None
    if settings.api_keys_file is not None:
        from service.keys import KeyFile, KeyFileDamaged

        try:
            KeyFile(settings.api_keys_file).read()
        except KeyFileDamaged as error:
            typer.echo(f"DIABOLO_API_KEYS_FILE: {settings.api_keys_file}: {error}", err=True)
            raise typer.Exit(1) from None
    from service.tls import TlsUnusable, check_tls

    try:
        check_tls(settings)
    except TlsUnusable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    from service.machine import allow_open_files, check_installed

    allow_open_files()
    check_installed(settings.runtime)
    if settings.device.startswith("cuda"):
        from service.engine.runtimes.torchscript import resolve_device
        from service.errors import DeviceUnavailable

        try:
            resolve_device(settings.device)
        except DeviceUnavailable as error:
            typer.echo(f"DIABOLO_DEVICE: {error}", err=True)
            raise typer.Exit(1) from None

    if settings.require_signature is not None:
        from service.engine.signatures import KeyUnusable, require_signature

        try:
            require_signature(settings.require_signature)
        except KeyUnusable as error:
            typer.echo(f"DIABOLO_REQUIRE_SIGNATURE: {error}", err=True)
            raise typer.Exit(1) from None

    from service.supervisor import supervise, worker_count

    if (count := worker_count(settings)) > 1:
        supervise(settings, count)
    if "heartbeat_seconds" in settings.model_fields_set:
        logger.warning("DIABOLO_HEARTBEAT_SECONDS changes nothing: one worker has no supervisor that could replace it")
    from service.server import serve as run

    run(settings)


def openapi() -> None:
    """Print the OpenAPI document of the service."""
    from service.app import create_app
    from service.settings import Settings

    typer.echo(json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False))
