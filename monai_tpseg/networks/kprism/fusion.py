"""The pixel side of the image: features of every level brought to one width, with position and level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.blocks import sine_position, to_map

__all__ = ["PixelFusion"]


class PixelFusion(nn.Module):
    """GN(Conv1x1(F_l)) + sine position + learned level embedding; the click pyramid is added when decoding.

    Args:
        in_channels: widths of the encoder, coarsest first.
        channels: C.
        groups: of the norm.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, groups: int = 32) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, channels, 1), nn.GroupNorm(groups, channels)) for c in in_channels
        )
        self.level = nn.Parameter(torch.randn(len(in_channels), channels))

    def forward(self, feature: Tensor, level: int) -> Tensor:
        """(B, C_l, h, w) of one level -> (B, C, h, w)."""
        x = self.project[level](feature)
        position = sine_position((x.shape[2], x.shape[3]), x.shape[1], x.device) + self.level[level]
        out: Tensor = x + to_map(position.unsqueeze(0), (x.shape[2], x.shape[3])).to(x.dtype)
        return out
