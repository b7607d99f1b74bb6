"""Options for a trunk trained from scratch, a convolutional stem and a fine skip; never part of the paper's layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_tpseg.networks.layers import TaskHead, resize

__all__ = ["ConvStem", "DetailBlock"]


class ConvStem(nn.Sequential):
    """Overlapping patch embedding of three 3x3 convolutions, total stride 4, in place of one 7x7 convolution.

    Early convolutions let a vision transformer train from scratch on few pictures (Xiao et al. 2021,
    arXiv 2106.14881).

    Args:
        channels: C of the trunk's first stage.
    """

    def __init__(self, channels: int) -> None:
        half = channels // 2
        super().__init__(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(1, half),
            nn.GELU(),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.GroupNorm(1, half),
            nn.GELU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, C), channels last, as `sam2`'s patch embedding gives them."""
        tokens: Tensor = super().forward(image)  # type: ignore[no-untyped-call]
        return tokens.permute(0, 2, 3, 1)


class DetailBlock(nn.Module):
    """A light skip at stride 2: the finest decoder's upsampled features combined with shallow features of the picture.

    The trunk's finest map has stride 4, so TP-Seg resolves outlines to four input pixels. A U-Net keeps full
    resolution throughout; this block keeps half, at a twentieth of the trunk's multiply-adds.

    Args:
        channels: of the finest decoder's features.
        width: C of this block.
        num_tasks: rows of the head.
    """

    def __init__(self, channels: int, width: int, num_tasks: int) -> None:
        super().__init__()
        self.look = nn.Sequential(  # the stem; its name is a key of published weights
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, width), nn.GELU()
        )
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.GELU(),
        )
        self.head = TaskHead(width, num_tasks)

    def forward(self, image: Tensor, features: Tensor, task: Tensor) -> Tensor:
        """Refine `features` (B, C, H / 4, W / 4) with `image` (B, 3, H, W) for `task` (B,).

        Returns:
            logits (B, 1, H / 2, W / 2).
        """
        seen = self.look(image)
        coarse = resize(self.reduce(features), seen.shape[-2:])
        logits: Tensor = self.head(self.fuse(torch.cat([seen, coarse], dim=1)), task)
        return logits
