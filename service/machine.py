"""What the machine has to run bundles with, told without importing it: torch takes seconds and half a gigabyte."""

import resource
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

__all__ = ["PACKAGES", "RuntimeName", "allow_open_files", "check_installed", "installed", "may_use_gpu"]

RuntimeName = Literal["auto", "torchscript", "onnx"]
PACKAGES: dict[RuntimeName, tuple[str, ...]] = {
    "auto": ("torch", "onnxruntime"),
    "torchscript": ("torch",),
    "onnx": ("onnxruntime",),
}
MOST_FILES = 2**16
GPU_NODES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # a wrong guess costs speed, and settings win


def installed(package: str) -> bool:
    """True when `package` can be imported."""
    return find_spec(package) is not None


def check_installed(runtime: RuntimeName) -> None:
    """Returns when there is something to run bundles with; raises ModuleNotFoundError otherwise."""
    packages = PACKAGES[runtime]
    if not any(map(installed, packages)):
        raise ModuleNotFoundError(f"No module named {packages[0]!r}", name=packages[0])


def allow_open_files() -> None:
    """This process, and those that it starts, may have as many files open as the system lets it, and so connections, up
    to 65536; most systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def may_use_gpu(device: str) -> bool:
    """True unless `device` means the CPU, as far as can be told without torch."""
    return device != "cpu" and (device != "auto" or any(Path(node).exists() for node in GPU_NODES))
