"""The compute floor: how long the multiply-adds of a call take at the rate of a large matrix product on this device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["compute_floor", "multiply_adds", "product_rate"]


def _of_packed_linear(x: tuple[int, ...], *_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
    """Operations of a product with packed weights, which PyTorch does not count: two for each multiply-add."""
    return 2 * x[-1] * math.prod(out_shape)


_PACKED = {torch.ops.mkldnn._linear_pointwise: _of_packed_linear} if torch.backends.mkldnn.is_available() else {}


def multiply_adds(run: Callable[[], Any]) -> float:
    """Return the multiply-adds of a call; it must not be compiled."""
    counter = FlopCounterMode(display=False, custom_mapping=_PACKED)
    with counter:
        run()
    return counter.get_total_flops() / 2


def product_rate(device: str, dtype: torch.dtype, size: int = 8192, rounds: int = 10) -> float:
    """Return the multiply-adds a second of a product of two (size, size) matrices, the median of `rounds`."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for turn in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        if turn:  # the first one chooses kernels
            seconds.append(time.perf_counter() - started)
    return size**3 / statistics.median(seconds)


def compute_floor(run: Callable[[], Any], device: str, dtype: torch.dtype, size: int = 8192) -> float:
    """Return the seconds that the multiply-adds of `run` take at `product_rate`."""
    return multiply_adds(run) / product_rate(device, dtype, size)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
