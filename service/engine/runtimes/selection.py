"""Which runtime opens a bundle. It is imported when the first one is opened, so that the socket opens at once."""

from typing import Literal

from bundle.errors import ArtefactMissing
from bundle.read import Bundle
from service import machine
from service.engine.runtimes import OpenRuntime, Runtime
from service.machine import PACKAGES, RuntimeName

__all__ = ["runtime_opener", "runtimes_of"]


def runtimes_of(bundle: Bundle) -> list[RuntimeName]:
    """The runtimes, of those installed, that can open the bundle. Raises ModuleNotFoundError when there is none."""
    names: list[RuntimeName] = ["torchscript", "onnx"]
    found: list[RuntimeName] = [
        name for name in names if name in bundle.manifest.artefacts and all(map(machine.installed, PACKAGES[name]))
    ]
    if not found:
        machine.check_installed("torchscript")
    return found


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
    torch = machine.installed("torch")
    if exported and machine.installed("onnxruntime") and not (torch and machine.may_use_gpu(device)):
        return "onnx"
    if not torch:
        raise ArtefactMissing(
            "the bundle has no ONNX, and torch, which runs TorchScript, is not installed: "
            "pip install 'diabolo[torch]', or train it again"
        )
    return "torchscript"
