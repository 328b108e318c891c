"""Which runtime opens a bundle. It is imported when the first one is opened, so that the socket opens at once."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from bundle.errors import ArtefactMissing
from bundle.read import Bundle
from service.engine.runtimes import OpenRuntime, Runtime

__all__ = ["RuntimeName", "check_installed", "may_use_gpu", "runtime_opener", "runtimes_of"]

RuntimeName = Literal["auto", "torchscript", "onnx"]
PACKAGES: dict[RuntimeName, tuple[str, ...]] = {
    "auto": ("torch", "onnxruntime"),
    "torchscript": ("torch",),
    "onnx": ("onnxruntime",),
}
GPU_NODES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")


def check_installed(runtime: RuntimeName) -> None:
    """Returns when there is something to run bundles with; raises ModuleNotFoundError otherwise."""
    packages = PACKAGES[runtime]
    if not any(map(_installed, packages)):
        raise ModuleNotFoundError(f"No module named {packages[0]!r}", name=packages[0])


def runtimes_of(bundle: Bundle) -> list[RuntimeName]:
    """The runtimes, of those installed, that can open the bundle. Raises ModuleNotFoundError when there is none."""
    names: list[RuntimeName] = ["torchscript", "onnx"]
    found: list[RuntimeName] = [
        name for name in names if name in bundle.manifest.artefacts and all(map(_installed, PACKAGES[name]))
    ]
    if not found:
        check_installed("torchscript")
    return found


def may_use_gpu(device: str) -> bool:
    """True unless `device` means the CPU, as far as can be told without torch, which takes seconds to import."""
    return device != "cpu" and (device != "auto" or any(Path(node).exists() for node in GPU_NODES))


def runtime_opener(runtime: RuntimeName, *, device: str) -> OpenRuntime:
    """Opens bundles in `runtime` on `device`.

    `auto` is ONNX on the CPU, where that is installed and a bundle has it, and TorchScript otherwise: ONNX starts
    sooner, takes less memory and answers faster (docs/runtimes.md). Opening raises ArtefactMissing for a bundle that
    cannot be run by what is asked for, or installed, and whatever the runtime raises.
    """

    def open_runtime(bundle: Bundle) -> Runtime:
        if _chosen(runtime, bundle, device=device) == "onnx":
            from service.engine.runtimes.onnx import OnnxRuntime

            return OnnxRuntime(bundle)
        from service.engine.runtimes.torchscript import TorchScriptRuntime, resolve_device

        return TorchScriptRuntime(bundle, device=resolve_device(device))

    return open_runtime


def _chosen(runtime: RuntimeName, bundle: Bundle, *, device: str) -> Literal["torchscript", "onnx"]:
    exported = "onnx" in bundle.manifest.artefacts
    match runtime:
        case "torchscript":
            return "torchscript"
        case "onnx" if not exported:
            raise ArtefactMissing(
                "the bundle has no ONNX, which DIABOLO_RUNTIME=onnx asks for: use auto, or train it again"
            )
        case "onnx":
            return "onnx"
    torch = _installed("torch")
    if exported and _installed("onnxruntime") and not (torch and may_use_gpu(device)):
        return "onnx"
    if not torch:
        raise ArtefactMissing(
            "the bundle has no ONNX, and torch, which runs TorchScript, is not installed: "
            "pip install 'diabolo[torch]', or train it again"
        )
    return "torchscript"


def _installed(package: str) -> bool:
    return find_spec(package) is not None
