"""Interactive knowledge: one token per click, with the pixels around the click as its content."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.queries import Queries

__all__ = ["InteractivePrompt", "pool_clicks"]


class InteractivePrompt(nn.Module):
    """Position of a click as random Fourier features plus an embedding of its polarity, as in SAM.

    A sample without class, exemplars and clicks (only a previous mask, or clicks only in other samples of the batch)
    gets one foreground token with a dedicated embedding.

    Args:
        channels: C, even.
        levels: of the decoder.
    """

    gaussian: Tensor

    def __init__(self, channels: int = 256, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("gaussian", torch.randn(2, channels // 2))
        self.positive = nn.Parameter(torch.randn(channels))
        self.negative = nn.Parameter(torch.randn(channels))
        self.no_click = nn.Parameter(torch.randn(channels))

    def forward(self, clicks: Tensor, size: tuple[int, int], alone: bool) -> Queries:
        """Convert clicks to tokens; `pool_clicks` provides their content, layer by layer.

        Args:
            clicks: (B, N, 3), see `Prompt`, N >= 1 where `alone`.
            size: (H, W) of the image.
            alone: whether there are no other tokens.
        """
        polarity = clicks[..., 2:]
        position = self.fourier(clicks[..., :2], size)
        position = position + torch.where(polarity > 0, self.positive, self.negative)
        present = clicks[..., 2] != 0
        foreground = clicks[..., 2] > 0
        if alone:
            first = torch.arange(clicks.shape[1], device=clicks.device) == 0
            lonely = first & ~present.any(1, keepdim=True)  # (B, N)
            position = torch.where(lonely.unsqueeze(-1), self.no_click, position)
            present, foreground = present | lonely, foreground | lonely
        start = torch.zeros_like(position)
        return Queries(start, (start,) * self.levels, (position,) * self.levels, foreground, present)

    def fourier(self, place: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, N, 2) row, column in pixels -> (B, N, C)."""
        row, column = (2 * (place.float() + 0.5)).unbind(-1)
        unit = torch.stack([row / size[0], column / size[1]], dim=-1) - 1  # in [-1, 1]
        angle = 2 * math.pi * (unit @ self.gaussian)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


def pool_clicks(tokens: Tensor, size: tuple[int, int], clicks: Tensor, stride: int, valid: Tensor | None) -> Tensor:
    """Average the existing pixels of the 3x3 neighbourhood of each click.

    Args:
        tokens: X (B, h * w, C) of one level.
        size: (h, w).
        clicks: (B, N, 3), see `Prompt`.
        stride: input pixels per pixel of the level.
        valid: (B, h * w) bool, False for padding; None where there is none.

    Returns:
        (B, N, C); zeros for padding.
    """
    cell = torch.floor((clicks[..., :2].float() + 0.5) / stride).long()
    steps = torch.arange(-1, 2, device=clicks.device)
    offset = torch.cartesian_prod(steps, steps)  # (9, 2)
    row, column = (cell.unsqueeze(2) + offset).unbind(-1)  # (B, N, 9)
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1]) & (clicks[..., 2:] != 0)
    index = (row.clamp(0, size[0] - 1) * size[1] + column.clamp(0, size[1] - 1)).flatten(1)  # (B, N * 9)
    if valid is not None:
        inside = inside & valid.gather(1, index).view_as(inside)
    near = tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[2])).view(*inside.shape, -1)
    weight = inside.to(tokens.dtype).unsqueeze(-1)
    mean: Tensor = (near * weight).sum(2) / weight.sum(2).clamp(min=1.0)
    return mean
