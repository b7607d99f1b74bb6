"""Low-rank updates of the trunk's attention (LoRA), row B1 of the paper's ablation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LowRank", "LowRankAttention"]


class LowRank(nn.Module):
    """A low-rank update beside an unchanged linear layer: W x + Up(Down(x)).

    A hook on the layer applies it, so the trunk keeps its names and loads its published weights strictly. Up is
    zero-initialised: the layer starts unchanged.

    Args:
        linear: the layer to update; its own parameters are not touched.
        rank: r.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        bound = linear.in_features**-0.5
        self.down = nn.Parameter(torch.empty(rank, linear.in_features).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        linear.register_forward_hook(self._added)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the update (..., C_out)."""
        return torch.matmul(torch.matmul(x, self.down.to(x.dtype).t()), self.up.to(x.dtype).t())

    def _added(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        update: Tensor = self(inputs[0])
        return output + update.to(output.dtype)


class LowRankAttention(nn.Module):
    """Updates of the query-key-value and the output projection of one attention, shared by all tasks.

    Args:
        attention: of a Hiera block, with the layers `qkv` and `proj`.
        rank: r of both.
    """

    def __init__(self, attention: nn.Module, rank: int) -> None:
        super().__init__()
        self.qkv = LowRank(attention.get_submodule("qkv"), rank)  # type: ignore[arg-type]
        self.proj = LowRank(attention.get_submodule("proj"), rank)  # type: ignore[arg-type]
