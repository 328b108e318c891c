"""The one place that silences TorchScript's deprecation notice.

TorchScript is what `model.pt` is made of. It works in every torch release that Diabolo supports, and upstream's notice
on every call would drown the messages that matter.
"""

import warnings

__all__ = ["silence_deprecation"]


def silence_deprecation() -> None:
    """From here on this process no longer warns that `torch.jit` functions are deprecated; all else still warns."""
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
