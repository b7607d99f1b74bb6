"""Plain replacements for TP-Seg's parts in the paper's ablations: adapter, decoder block, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.layers import RFB, ConvNormReLU, TaskHead, resize

__all__ = ["FinestOutput", "PlainAdapter", "PlainBlock", "PlainOutput", "UDecoder"]


class PlainAdapter(nn.Module):
    """Task-agnostic bottleneck adapter, row B2: h' = h + Up(gelu(Down(h))), with biases and without a norm.

    Row B3, the shared route of `TaskAdapter` alone, differs in its norm. Up is zero-initialised: the adapter starts as
    the identity.

    Args:
        channels: C of the block's input.
        bottleneck: r.
    """

    def __init__(self, channels: int, bottleneck: int = 64) -> None:
        super().__init__()
        self.down = nn.Linear(channels, bottleneck)
        self.up = nn.Linear(bottleneck, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor, task: Tensor) -> Tensor:
        """(B, h, w, C), channels last -> h' of the same shape; `task` is not used."""
        adapted: Tensor = h + self.up(F.gelu(self.down(h)))
        return adapted


class PlainOutput(NamedTuple):
    """Output of a plain block: `logits` (B, 1, h, w) and `features` (B, C, h, w)."""

    logits: Tensor
    features: Tensor


class PlainBlock(nn.Module):
    """One step of a U-shaped decoder: upsample, concatenate, two 3x3 convolutions, a head.

    Args:
        low_channels: channels of the finer map.
        high_channels: channels of the coarser map.
        channels: C of the block.
        num_tasks: rows of the head.
    """

    def __init__(self, low_channels: int, high_channels: int, channels: int, num_tasks: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormReLU(low_channels + high_channels, channels, (3, 3)), ConvNormReLU(channels, channels, (3, 3))
        )
        self.head = TaskHead(channels, num_tasks)

    def forward(self, low: Tensor, high: Tensor, task: Tensor) -> PlainOutput:
        """Decode `low` (B, C_low, h, w) with `high` (B, C_high, h', w'), h' <= h, for the head's rows `task` (B,)."""
        features = self.convs(torch.cat([resize(high, low.shape[-2:]), low], dim=1))
        return PlainOutput(self.head(features, task), features)


class UDecoder(nn.Module):
    """A U-shaped decoder without prototypes, experts or rows per task: rows A1 and A3, and SAM2-UNet's decoder.

    Receptive-field blocks, then three plain blocks from coarse to fine, each with a head for deep supervision.

    Args:
        in_channels: channels of the four encoder stages, finest first.
        rfb_channels: width of each stage after its RFB.
        channels: width of the three blocks, finest first.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        rfb_channels: Sequence[int] = (64, 128, 256, 512),
        channels: Sequence[int] = (128, 128, 256),
    ) -> None:
        super().__init__()
        self.rfbs = nn.ModuleList(RFB(i, o) for i, o in zip(in_channels, rfb_channels, strict=True))
        high = (channels[1], channels[2], rfb_channels[3])
        self.blocks = nn.ModuleList(
            PlainBlock(low, up, mid, 1) for low, up, mid in zip(rfb_channels, high, channels, strict=False)
        )

    def forward(
        self, features: Sequence[Tensor], task: Tensor, image: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Decode four stages, finest first; `task` only sets the batch size, `image` is not used.

        Returns:
            logits of the three blocks, finest first, each at its own size (B, 1, h, w), and no encodings.
        """
        return self.decode([rfb(x) for rfb, x in zip(self.rfbs, features, strict=True)], task, image)

    def decode(
        self, stages: Sequence[Tensor], task: Tensor, image: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """As `forward`, for stages already processed by their RFBs."""
        rows = torch.zeros_like(task)
        logits: list[Tensor] = []
        high = stages[3]
        for i in (2, 1, 0):
            output = self.blocks[i](stages[i], high, rows)
            high = output.features
            logits.insert(0, output.logits)
        return tuple(logits), ()


class FinestOutput(nn.Module):
    """Returns the finest output as the prediction, in contrast to the weighted sum of `TaskFusion`."""

    def forward(self, logits: Sequence[Tensor], task: Tensor) -> Tensor:
        """Sequence of (B, 1, H, W), finest first -> (B, 1, H, W)."""
        return logits[0]
