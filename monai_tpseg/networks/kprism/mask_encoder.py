"""The encoder of exemplars with their labels, for the values of in-context prompts."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.blocks import PreActBlock

__all__ = ["MaskEncoder"]


class MaskEncoder(nn.Module):
    """A stem at full size and four stages, each a max pooling and a residual block.

    Args:
        channels: widths at strides 4, 8, 16, those of the image encoder.
        width: channels of the stem and at stride 2.
        in_channels: of the image.
    """

    def __init__(self, channels: tuple[int, ...], width: int = 48, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(PreActBlock(in_channels + 1, width), PreActBlock(width, width))
        widths = (width, width, *channels)
        self.stages = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), PreActBlock(i, o)) for i, o in pairwise(widths))

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W), (N, 1, H, W) -> three maps at strides 4, 8, 16."""
        x = self.stem(torch.cat([image, label.to(image.dtype)], dim=1))
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps[1:])
