"""What the machine has to run bundles with, told without importing it: torch takes seconds and half a gigabyte."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

__all__ = ["PACKAGES", "RuntimeName", "check_installed", "installed", "may_use_gpu"]

RuntimeName = Literal["auto", "torchscript", "onnx"]
PACKAGES: dict[RuntimeName, tuple[str, ...]] = {
    "auto": ("torch", "onnxruntime"),
    "torchscript": ("torch",),
    "onnx": ("onnxruntime",),
}
GPU_NODES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # a wrong guess costs speed, and settings win


def installed(package: str) -> bool:
    """True when `package` can be imported."""
    return find_spec(package) is not None


def check_installed(runtime: RuntimeName) -> None:
    """Returns when there is something to run bundles with; raises ModuleNotFoundError otherwise."""
    packages = PACKAGES[runtime]
    if not any(map(installed, packages)):
        raise ModuleNotFoundError(f"No module named {packages[0]!r}", name=packages[0])


def may_use_gpu(device: str) -> bool:
    """True unless `device` means the CPU, as far as can be told without torch."""
    return device != "cpu" and (device != "auto" or any(Path(node).exists() for node in GPU_NODES))
