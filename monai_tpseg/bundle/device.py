"""GPU settings of a training: float32 products, selection of convolutions, copies."""

from __future__ import annotations

import os
from typing import Any

import torch

from monai_tpseg.bundle.command_line import flag

__all__ = ["device_of_rank", "is_gpu", "set_up_device"]


def is_gpu(device: Any) -> bool:
    """Whether `device` is CUDA's (or ROCm's): batches then go through pinned memory, and nobody waits for the copy."""
    return torch.device(device).type == "cuda"


def set_up_device(device: Any, tf32: bool | str = False, deterministic: bool | str = False) -> None:
    """Set how a GPU computes, for this process; does nothing for a CPU.

    Args:
        device: device of the training.
        tf32: float32 products and convolutions keep 10 bits of the fraction; False leaves PyTorch's own choice.
        deterministic: cuDNN takes convolutions that give the same sums each time; False lets it try which are fastest.
            MONAI's `set_determinism`, which runs before, asks for the former. Other operations (sums into rows, the
            gradient of resizing) add in any order all the same, so two runs on a GPU agree to rounding, not bit by bit.

    Raises:
        ValueError: neither true nor false.
    """
    fast, exact = flag(tf32, "tf32"), flag(deterministic, "deterministic")
    if not is_gpu(device):
        return
    if fast:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.benchmark = not exact


def device_of_rank() -> torch.device:
    """Return the GPU of this process of a parallel run, as `torchrun` numbers them, or the CPU where there is none."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
