"""What the machine has to run bundles with, told without importing it: torch takes seconds and half a gigabyte."""

import contextlib
import math
import os
import resource
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

__all__ = [
    "PACKAGES",
    "RuntimeName",
    "allow_open_files",
    "check_installed",
    "installed",
    "may_use_gpu",
    "usable_cores",
]

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


def usable_cores(*, groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores this process may use: those that it may run on, and no more than its control group has the time
    of, which is how containers are limited. Both paths are the kernel's (cgroups(7))."""
    limits = [float(len(os.sched_getaffinity(0)))]
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                limits += _limits(groups / "cpu" if controllers else groups, path)
    return math.ceil(min(limits))


def _limits(root: Path, path: str) -> list[float]:
    """In cores, of the group at this path and those that it is part of. In a container the path may be the host's,
    which is not there, and the root the container's own."""
    group = root / path.strip("/")
    return [limit for place in (group, *group.parents) if place.is_relative_to(root) and (limit := _limit(place))]


def _limit(place: Path) -> float | None:
    """Of version 2 or 1; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (place / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((place / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def may_use_gpu(device: str) -> bool:
    """True unless `device` means the CPU, as far as can be told without torch."""
    return device != "cpu" and (device != "auto" or any(Path(node).exists() for node in GPU_NODES))
