"""The `diabolo` command. What a subcommand needs is imported when it runs, so each works without the others' extras."""

import sys

import typer

from cli.diff import diff
from cli.keys import app as keys
from cli.models import app as models
from cli.serve import openapi, serve
from cli.sign import sign
from cli.train import train
from cli.verify import verify

__all__ = ["app", "main"]

EXTRAS = {
    **dict.fromkeys(("fastapi", "fastapi_offline", "orjson", "pydantic_settings", "uvicorn", "werkzeug"), "service"),
    **dict.fromkeys(("jinja2", "lightning_fabric", "pyarrow", "pytorch_lightning", "rich", "sklearn"), "training"),
    **dict.fromkeys(("onnx_ir", "onnxscript"), "training"),
    "model_signing": "signing",
    "onnxruntime": "onnx",
    "torch": "torch",
}

app = typer.Typer(
    help="Trains autoencoders offline and serves them over HTTP.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
app.command()(train)
app.command()(serve)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
app.command()(verify)
app.command()(sign)
app.command()(diff)
app.command(hidden=True)(openapi)


def main() -> None:
    """Runs the command line; a missing extra is one sentence that says how to install it."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package, "service,torch,training")
        sys.stderr.write(f"This command needs {package}, which is not installed: pip install 'diabolo[{extra}]'\n")
        raise SystemExit(1) from None
