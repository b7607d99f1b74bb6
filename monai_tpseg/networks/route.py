"""The split gate: the position at which the encoder switches from shared to task-specific adapters, per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SplitGate"]


class SplitGate(nn.Module):
    r"""Monotone gate w(task, block) in [0, 1]: 0 runs the shared route of a block's adapter, 1 the task's own.

    The equation printed in the paper is not legible; this is our reading of its "cumulative sigmoid". With a learnable
    vector L per task, n blocks numbered from 1 and the temperature tem:

        d_i = softplus(L_i),   z_b = (sum_{i<=b} d_i - 1/2 sum_{i<=n-1} d_i) / tem,
        w_1 = 0,   w_n = 1,   w_b = sigmoid(z_b) otherwise.

    As d > 0, w grows with b by construction. The separation position is b* = the first b >= 2 with z_b >= 0, always in
    2..n-1: the first block is always shared and the last always task-specific. L = 0 puts it in the middle. L_n would
    have no effect, so n - 1 values are stored.

    `temperature` and `hard` are persistent buffers: a loaded model runs exactly as validated. A hard gate is exactly 0
    or 1, and the gradient of L is then zero.

    Args:
        num_tasks: T.
        num_blocks: n, at least 3.
    """

    temperature: Tensor
    hard: Tensor

    def __init__(self, num_tasks: int, num_blocks: int) -> None:
        super().__init__()
        if num_blocks < 3:
            raise ValueError(f"A split needs at least 3 blocks, got {num_blocks}.")
        self.num_blocks = num_blocks
        self.task_split = nn.Parameter(torch.zeros(num_tasks, num_blocks - 1))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("hard", torch.tensor(False))
        self.is_hard = False  # `hard` on the host: choosing the code path must not wait for the device

    def set_temperature(self, temperature: float) -> None:
        """Set tem of the soft gate (> 0)."""
        if not temperature > 0:
            raise ValueError(f"The gate temperature must be positive, got {temperature}.")
        self.temperature.fill_(temperature)

    def set_hard(self, hard: bool) -> None:
        """Switch between the soft gate and gates that are exactly 0 or 1."""
        self.hard.fill_(hard)
        self.is_hard = hard

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.is_hard = bool(self.hard)

    def logits(self) -> Tensor:
        """Return z, (T, n - 1), column 0 for block 1."""
        step = F.softplus(self.task_split.float())
        return (step.cumsum(1) - 0.5 * step.sum(1, keepdim=True)) / self.temperature

    def table(self) -> Tensor:
        """Return w for every task and block, (T, n)."""
        z = self.logits()[:, 1:]
        # 0 * z keeps the parameter in the graph with a zero gradient: parallel ranks reduce every parameter
        inner = (z >= 0).to(z.dtype) + 0 * z if self.is_hard else torch.sigmoid(z)
        zero = inner.new_zeros(len(inner), 1)
        return torch.cat([zero, inner, zero + 1], dim=1)

    def forward(self, task: Tensor) -> Tensor:
        """(B,) rows -> w, (B, n)."""
        return self.table()[task]

    @torch.no_grad()
    def split_positions(self) -> Tensor:
        """Return b* of each task, (T,) int64, blocks numbered from 1."""
        return (self.logits()[:, 1:] >= 0).int().argmax(dim=1) + 2
