"""The pixel side of clicks: an image of disks and the previous mask, and its pyramid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_tpseg.networks.layers import plain_tensor, resize, to_device

__all__ = ["ClickPyramid", "click_map"]


def click_map(
    clicks: Tensor | None, previous_logits: Tensor | None, batch: int, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Draw clicks as disks of radius 1 beside the probability of the previous mask.

    Args:
        clicks: (B, N, 3) or None, see `Prompt`.
        previous_logits: (B, 1, h, w) or None.
        batch: B.
        size: (H, W) of the image.
        device: of the result.

    Returns:
        (B, 3, H, W) float32: positive disks, negative disks, probability in [0, 1] (zeros without a previous mask).
    """
    height, width = size
    disks = torch.zeros(batch, 2 * height * width, device=device)
    if clicks is not None and clicks.shape[1]:
        clicks = to_device(plain_tensor(clicks), device).float()
        steps = torch.arange(-1, 2, device=device)
        offset = torch.cartesian_prod(steps, steps)  # (9, 2)
        place = torch.floor(clicks[..., :2] + 0.5).long().unsqueeze(2) + offset  # (B, N, 9, 2)
        row, column = place.unbind(-1)
        polarity = clicks[..., 2:]
        drawn = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (polarity != 0)
        drawn = drawn & (offset.abs().sum(1) <= 1)
        index = (polarity < 0).long() * (height * width) + row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        disks = disks.scatter_reduce(1, index.flatten(1), drawn.float().flatten(1), "amax")
    previous = torch.zeros(batch, 1, height, width, device=device)
    if previous_logits is not None:
        previous = resize(to_device(plain_tensor(previous_logits), device).float(), size).sigmoid()
    return torch.cat([disks.view(batch, 2, height, width), previous], dim=1)


class ClickPyramid(nn.Module):
    """D: four 3x3 convolutions of stride 2, each with ReLU and GroupNorm, tapped at strides 16, 8, 4.

    Args:
        channels: C.
        groups: of the norm.
    """

    def __init__(self, channels: int = 256, groups: int = 32) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, channels, 3, 2, 1), nn.ReLU(), nn.GroupNorm(groups, channels))
            for i in (3, channels, channels, channels)
        )

    def forward(self, clicks: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> three maps (B, C, h, w), coarsest first."""
        maps: list[Tensor] = []
        for step in self.steps:
            clicks = step(clicks)
            maps.insert(0, clicks)
        return tuple(maps[:3])
