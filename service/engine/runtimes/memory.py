"""How runtimes say that memory does not suffice: each in words of its own, none by Python's MemoryError."""

__all__ = ["lacks_memory"]

SAYINGS = ("out of memory", "not enough memory", "allocate memory", "ALLOC_FAILED", "bad_alloc")
"""CUDA and its allocator in torch, torch on the CPU (two ways), cuBLAS and cuDNN, onnxruntime."""


def lacks_memory(error: Exception) -> bool:
    """True when a forward pass, or the opening of a program, failed for want of memory, of the device or of the
    machine."""
    text = str(error)
    return isinstance(error, MemoryError) or any(saying in text for saying in SAYINGS)
