"""A last step at stride 2 for networks trained from scratch; not part of the paper's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.blocks import ChannelGatedBlock
from monai_tpseg.networks.layers import resize

__all__ = ["PromptDetail"]


class PromptDetail(nn.Module):
    """Draws the mask once more at half the size of the image, from the image, the clicks and the decoder's pixels.

    The decoder's finest level has stride 4, which limits the resolution of outlines and click disks. The image features
    do not depend on the prompt and are kept in `ImageState`.

    Args:
        channels: D of the decoder.
        width: C of this block.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, width, 3, 2, 1)
        self.clicks = nn.Conv2d(3, width, 3, 2, 1)
        self.pixels = nn.Conv2d(channels, width, 1)
        self.mix = nn.Conv2d(2 * width, width, 3, 1, 1)
        self.blocks = nn.Sequential(
            ChannelGatedBlock(width, kernel_size=0),
            ChannelGatedBlock(width, kernel_size=0),
            nn.Conv2d(width, 1, 3, 1, 1),
        )

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> stored image features, (B, C, H / 2, W / 2)."""
        seen: Tensor = self.image(image)
        return seen

    def forward(self, seen: Tensor, drawn: Tensor, pixels: Tensor) -> Tensor:
        """Draw the mask.

        Args:
            seen: from `encode_image`.
            drawn: clicks and previous mask as a picture (B, 3, H, W), see `click_map`.
            pixels: (B, D, H / 4, W / 4) of the decoder.

        Returns:
            logits (B, 1, H / 2, W / 2).
        """
        fine = torch.relu(seen + self.clicks(drawn))
        coarse = resize(self.pixels(pixels), fine.shape[-2:])
        logits: Tensor = self.blocks(self.mix(torch.cat([fine, coarse], dim=1)))
        return logits
