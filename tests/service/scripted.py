"""TorchScript programs for tests: scripted, and stored as our export stores them."""

import io
import zipfile
from collections.abc import Mapping

import torch
from torch import nn

from bundle.torchscript import silence_deprecation

__all__ = ["archive_of", "members_of", "scripted"]


def scripted(module: nn.Module) -> bytes:
    """The bytes of `model.pt` with the exported methods of `module`; torch itself would compress the code."""
    silence_deprecation()
    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(module), saved)
    return archive_of(members_of(saved.getvalue()))


def members_of(program: bytes) -> dict[str, bytes]:
    """What the archive holds, by its full names."""
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(members: Mapping[str, bytes]) -> bytes:
    """The archive that holds `members`, not compressed."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stored.getvalue()
