"""TorchScript programs. The only file of the service that imports torch."""

import io

import torch

from bundle.calibration import Floats
from bundle.errors import ProgramInvalid
from bundle.inspection.program import inspected
from bundle.manifest import TORCHSCRIPT_FILE
from bundle.operations import Method
from bundle.read import Bundle
from bundle.torchscript import silence_deprecation
from service.engine.runtimes.memory import lacks_memory
from service.errors import DeviceUnavailable

__all__ = ["TorchScriptRuntime", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means on this machine.

    Raises DeviceUnavailable when a GPU is asked for that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        there = f"it has {count} of them, counted from cuda:0" if count else "it has none that torch can use"
        raise DeviceUnavailable(
            f"the device {name} was asked for, but this machine has no such GPU: {there}. Use auto or cpu"
        )
    return torch.device("cuda:0") if name == "cuda" else device


class TorchScriptRuntime:
    """A bundle's `model.pt`, frozen, on one device. Raises ProgramForbidden when it holds what no program of ours does,
    before torch reads any of it; ProgramInvalid when it does not open or lacks a method; MemoryError where memory does
    not suffice for it at the moment."""

    platform = "pytorch_torchscript"

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        silence_deprecation()
        # Golden probes and p-values are float32 throughout; TF32 would be off by a thousand times their tolerance.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        try:
            content = io.BytesIO(inspected(bundle.files[TORCHSCRIPT_FILE]))
            program = torch.jit.load(content, map_location=device).eval()  # type: ignore[no-untyped-call]  # torch's own
            missing = sorted(method for method in bundle.manifest.methods if not hasattr(program, method))
            if missing:
                raise ProgramInvalid(f"{TORCHSCRIPT_FILE} exports no {', '.join(missing)}")
            self._program = torch.jit.freeze(program, preserved_attrs=sorted(bundle.manifest.methods))
        except RuntimeError as error:
            if lacks_memory(error):
                raise MemoryError(f"the memory of {device} does not suffice to open {TORCHSCRIPT_FILE}") from error
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ProgramInvalid(
                f"{TORCHSCRIPT_FILE} cannot be opened by torch {torch.__version__}: {reason}"
            ) from None
        self._device = device

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""
        return str(self._device)

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """The arrays that `method` returns for rows of shape (n, width): float32, n rows each. Raises MemoryError where
        the device's memory does not suffice for so many."""
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(rows if rows.flags.writeable else rows.copy()).to(self._device)
                output = getattr(self._program, method.value)(batch)
                return tuple(part.cpu().numpy() for part in (output if isinstance(output, tuple) else (output,)))
        except RuntimeError as error:  # torch.OutOfMemoryError is one; raised within a program it is any
            if lacks_memory(error):
                raise MemoryError(f"{len(rows)} rows are too many for the memory of {self._device}") from error
            raise
