"""Semantic knowledge: two learned tokens per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.queries import Queries

__all__ = ["SemanticPrompt"]


class SemanticPrompt(nn.Module):
    """Two tables, token and position, with two rows per class.

    Args:
        num_tasks: T classes.
        channels: C.
        levels: of the decoder.
        tokens: rows per class.
    """

    def __init__(self, num_tasks: int, channels: int = 256, levels: int = 3, tokens: int = 2) -> None:
        super().__init__()
        self.levels = levels
        self.task_query = nn.Parameter(torch.randn(num_tasks, tokens, channels))
        self.task_position = nn.Parameter(torch.randn(num_tasks, tokens, channels))

    def forward(self, task: Tensor) -> Queries:
        """(B,) rows -> 2 foreground tokens per sample."""
        start = self.task_query[task]
        every = torch.ones(start.shape[:2], dtype=torch.bool, device=start.device)
        rest = (torch.zeros_like(start),) * self.levels
        return Queries(start, rest, (self.task_position[task],) * self.levels, every, every)
