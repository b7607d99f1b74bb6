"""The task-conditioned routing block (TCRB): a bottleneck adapter with a shared and a task-specific route."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.kernels import norm_channels_last
from monai_tpseg.words import choose

__all__ = ["Routes", "TaskAdapter"]

Routes = Literal["both", "task", "shared"]


class TaskAdapter(nn.Module):
    """Adapter in front of one frozen encoder block, equations (1) and (2) of the paper.

        dh_s = Up_s(gelu(Down_s(GN(h))))    shared by all tasks
        dh_t = Up_t(gelu(Down_t(GN(h))))    one per task
        h'   = h + (1 - w) dh_s + w dh_t    w from `SplitGate`

    GN is a GroupNorm with one group; Down and Up are 1x1 convolutions without bias (here: matrices on channels-last
    features). Up is zero-initialised: the adapter starts as the identity. One parameter holds the rows of all tasks,
    selected by index, so a batch may mix tasks.

    Args:
        channels: C of the block's input.
        num_tasks: T.
        bottleneck: r.
        routes: "both" as in the paper; "task" (no shared route, as released) or "shared" (no task route).
        task_scale: multiply each task's route by a learnable number per task, as the released layout does.
    """

    def __init__(
        self,
        channels: int,
        num_tasks: int,
        bottleneck: int = 64,
        routes: Routes = "both",
        task_scale: bool = False,
    ) -> None:
        super().__init__()
        if routes not in ("both", "task", "shared"):
            raise ValueError(f"Unknown routes {routes!r}; {choose(routes, ('both', 'task', 'shared'))}.")
        self.routes = routes
        self.norm = nn.GroupNorm(1, channels)
        bound = channels**-0.5  # as nn.Conv2d and nn.Linear draw their weights
        if routes != "task":
            self.shared_down = nn.Parameter(torch.empty(bottleneck, channels).uniform_(-bound, bound))
            self.shared_up = nn.Parameter(torch.zeros(channels, bottleneck))
        if routes != "shared":
            self.task_down = nn.Parameter(torch.empty(num_tasks, bottleneck, channels).uniform_(-bound, bound))
            self.task_up = nn.Parameter(torch.zeros(num_tasks, channels, bottleneck))
        self.task_scale = nn.Parameter(torch.ones(num_tasks)) if task_scale else None

    def forward(self, h: Tensor, task: Tensor, gate: Tensor | None = None, hard: bool = False) -> Tensor:
        """Return h' of the same shape.

        Args:
            h: (B, h, w, C), channels last.
            task: (B,) int64.
            gate: (B,) w of this block; only for routes "both".
            hard: the gate holds only 0 and 1, so only one route per sample is computed.
        """
        x = norm_channels_last(h, self.norm).flatten(1, 2)  # (B, h * w, C)
        down, up, scale = self._route(task, gate, hard)
        hidden = F.gelu(torch.matmul(x, down.to(x.dtype).transpose(-1, -2)))
        if scale is not None:
            hidden = hidden * scale.to(hidden.dtype)
        return h + torch.matmul(hidden, up.to(hidden.dtype).transpose(-1, -2)).view_as(h)

    def _route(self, task: Tensor, gate: Tensor | None, hard: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the down (..., k, C) and up (..., C, k) matrices to run, and a factor (B, 1, k or 1) between them."""
        if self.routes == "shared":
            return self.shared_down, self.shared_up, None
        down, up = self.task_down[task], self.task_up[task]  # (B, r, C), (B, C, r)
        if self.routes == "task":
            return down, up, None if self.task_scale is None else self.task_scale[task].view(-1, 1, 1)
        if gate is None:
            raise ValueError("An adapter with both routes needs the gate of its block.")
        w = gate.view(-1, 1, 1)
        if hard:
            return torch.where(w > 0.5, down, self.shared_down), torch.where(w > 0.5, up, self.shared_up), None
        # both routes as one product of twice the width: [(1 - w) dh_s, w dh_t]
        batch, width = down.shape[0], down.shape[1]
        down = torch.cat([self.shared_down.expand(batch, -1, -1), down], dim=1)
        up = torch.cat([self.shared_up.expand(batch, -1, -1), up], dim=2)
        return down, up, torch.cat([(1 - w).expand(-1, -1, width), w.expand(-1, -1, width)], dim=2)
