"""What a run computes on."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Hardware", "flush_denormals"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """`devices` of a kind on each of `nodes` machines, one process for each; every batch is divided among them all.

    `auto` is CUDA where there is a GPU, else the CPU. With a mixed `precision` weights stay float32 and matrix products
    are computed in bfloat16 or float16 (Micikevicius et al. 2018, ICLR). Only one CPU promises bit-equal weights:
    adding up in another order gives other bits, and only there is the order fixed.
    """

    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    devices: int = 1
    nodes: int = 1

    @property
    def accelerator(self) -> Literal["cpu", "cuda"]:
        """The kind of device, `auto` decided."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device

    @property
    def processes(self) -> int:
        """How many processes share the run."""
        return self.devices * self.nodes

    @property
    def is_first(self) -> bool:
        """True in the process that reports and publishes. The variables are those of Lightning, torchrun and SLURM."""
        ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
        return self.processes == 1 or all(os.environ.get(rank, "0") == "0" for rank in ranks)

    def faults(self) -> list[str]:
        """What contradicts itself or this machine, in words; empty when nothing does."""
        found = []
        if self.device not in ("cpu", "cuda", "auto"):
            found.append(f"no device is called {self.device!r}; there are cpu, cuda and auto")
        if self.precision not in ("32", "bf16-mixed", "16-mixed"):
            found.append(f"no precision is called {self.precision!r}; there are 32, bf16-mixed and 16-mixed")
        if self.devices < 1 or self.nodes < 1:
            found.append("devices and nodes are 1 or more")
        if self.device == "cuda" and not torch.cuda.is_available():
            found.append("there is no CUDA device that PyTorch can use here; choose the device cpu or auto")
        elif self.accelerator == "cuda" and self.devices > torch.cuda.device_count():
            found.append(f"there are {torch.cuda.device_count()} CUDA devices here, not {self.devices}")
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            found.append("16-mixed needs a GPU; the CPU has bf16-mixed")
        return found


def flush_denormals() -> None:
    """Numbers below 1.2e-38 count as 0, in this thread and in those that start later: call it before torch computes.

    The averages that Adam keeps for weights without gradient fall to there within 800 steps (0.9^800), and processors
    need four times as long for a step over such numbers.
    """
    torch.set_flush_denormal(True)
