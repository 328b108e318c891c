"""Reads rows.parquet in the folder at the first argument, trains one epoch on rows.npy beside it, then takes all its
rows at once, with no more than so many further megabytes of memory of its own as the second argument says. A program of
its own, because such a bound is that of a process. What it got done is said line by line."""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import torch

import training.publish
from training import defaults, rows
from training.defaults import Choices, configuration
from training.publish import Places, publish
from training.sources.files import Files

CHOICES = Choices(family="vanilla", latent=4, hidden=(16,), epochs=1)


def bound(megabytes: int) -> None:
    """From here on the process gets no more private memory than this beyond what it has; mapped files do not count."""
    status = Path("/proc/self/status").read_text().splitlines()
    (taken,) = (int(line.split()[1]) * 2**10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (taken + megabytes * 2**20,) * 2)


def main(folder: Path, megabytes: int) -> None:
    """Raises RuntimeError or MemoryError where the bound is reached."""
    rows.MEMORY_BYTES, defaults.HELD_OUT_ROWS = 2**20, 2_000
    torch.set_num_threads(1)
    # The libraries that export ONNX take as much as is allowed here, however few the rows.
    vars(training.publish)["onnx_files"] = lambda *_, **__: {}
    bound(megabytes)
    Files(path=str(folder / "rows.parquet"))(folder / "runs")
    print("read", flush=True)  # noqa: T201 (the answer)
    files = Files(path=str(folder / "rows.npy"))
    config, data = configuration(files, CHOICES, name="large", folder=folder / "runs")
    config = replace(config, fitting=replace(config.fitting, batch_size=1024, threads=1))
    places = Places(models=folder / "models", data=folder / "data", runs=folder / "runs")
    publish(config, places, data=data, command="diabolo train")
    print("trained", flush=True)  # noqa: T201 (the answer)
    data.features[:]
    print("held", flush=True)  # noqa: T201 (the answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
