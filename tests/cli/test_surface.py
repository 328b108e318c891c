"""What can be typed: commands, arguments and options are pinned, because scripts depend on them."""

from typing import Any

import typer

from cli.main import app

SURFACE = {
    "": "",
    "train": "--beta --colour --data --data-dir --device --devices --drop --epochs --exponent --family --fresh "
    "--hidden --image-size --label --latent --list --models-dir --name --nodes --noise --precision --score --seed "
    "--trim RECIPE",
    "serve": "--host --port --show-settings --workers",
    "verify": "--models-dir --replay --require-signature PATHS",
    "sign": "--key --password PATHS",
    "diff": "--alpha --data --device --fail-above-flips --json --models-dir --runtime A B",
    "openapi": "",
    "keys": "",
    "keys add": "--burst --keys-file --rate --scope NAME",
    "keys list": "--keys-file",
    "keys remove": "--keys-file NAME",
    "models": "--models-dir --state-dir",
    "models pin": "--device --models-dir --require-signature --runtime --state-dir --wait NAME VERSION",
    "models unpin": "--models-dir --state-dir --wait NAME",
    "models load": "--device --models-dir --require-signature --runtime --state-dir --wait NAME",
    "models unload": "--models-dir --state-dir --wait NAME",
}


def surface(command: Any, *path: str) -> dict[str, str]:
    """Command -> its arguments, in capitals, and its options, in order of the alphabet."""
    words = [
        parameter.name.upper() if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
        for parameter in command.params
    ]
    found = {" ".join(path): " ".join(sorted(words))}
    for name, inner in getattr(command, "commands", {}).items():
        found |= surface(inner, *path, name)
    return found


def test_commands_and_options_are_those_that_scripts_know() -> None:
    assert surface(typer.main.get_command(app)) == SURFACE
