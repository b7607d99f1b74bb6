"""Image encoders of K-Prism: the encoder half of UTNet, or SAM 2's Hiera."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.hiera import Stem, TaskConditionedHiera, build_hiera
from monai_tpseg.networks.kprism.blocks import PreActBlock, to_map, to_tokens
from monai_tpseg.networks.layers import is_recorded

__all__ = ["AttentionBlock", "HieraEncoder", "ImageEncoder", "ReducedAttention", "UTNetEncoder"]


class ImageEncoder(Protocol):
    """Interface of an image encoder for K-Prism.

    channels: widths at strides 4, 8, 16. divisor: what H and W must be divisible by, 16 or a multiple of it.
    """

    @property
    def channels(self) -> tuple[int, ...]: ...

    @property
    def divisor(self) -> int: ...

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> three maps (B, C_i, H / 2^(i+2), W / 2^(i+2)), finest first."""


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values are resampled to a small grid, with a learned relative position bias.

    Args:
        channels: C, divisible by `num_heads`.
        num_heads: heads.
        grid: side of the grid of keys and values.
        dropout: of attention weights and of the result.
    """

    index: Tensor

    def __init__(self, channels: int, num_heads: int = 4, grid: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels do not divide into {num_heads} heads.")
        self.num_heads, self.grid, self.dropout = num_heads, grid, dropout
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out_depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        self.bias = nn.Parameter(torch.randn((2 * grid - 1) ** 2, num_heads) * 0.02)
        cells = torch.arange(grid)
        offset = cells.unsqueeze(1) - cells + grid - 1  # (grid of the query, grid of the key)
        index = offset[:, None, :, None] * (2 * grid - 1) + offset[None, :, None, :]  # rows and columns
        self.register_buffer("index", index.flatten(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), any h and w -> the same shape."""
        size = (x.shape[2], x.shape[3])
        q, k, v = self.qkv(self.depthwise(x)).chunk(3, dim=1)
        if is_recorded() or size != (self.grid, self.grid):  # a record is for other sizes too
            k, v = (F.interpolate(t, size=(self.grid, self.grid), mode="bilinear", align_corners=True) for t in (k, v))
        q, k, v = (torch.unflatten(to_tokens(t), 2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        drop = self.dropout if self.training else 0.0
        bias = (self.position_bias(size) * q.shape[-1] ** -0.5).to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop)  # (B, heads, N, C / heads)
        y = to_map(y.transpose(1, 2).flatten(2), size)
        return F.dropout(self.out(self.out_depthwise(y)), self.dropout, self.training)

    def position_bias(self, size: tuple[int, int]) -> Tensor:
        """Return the bias of every pixel towards every cell of the grid, (1, heads, h * w, grid^2)."""
        rows, columns = (torch.arange(n, device=self.index.device) * self.grid // n for n in size)
        index = self.index[rows][:, columns].flatten(0, 1)  # a pixel has the bias of the cell it lies in
        return self.bias[index].permute(2, 0, 1).unsqueeze(0)


class AttentionBlock(nn.Module):
    """Batch norm and reduced attention, then batch norm, ReLU and a 1x1 convolution, each with a residual.

    Args:
        channels, num_heads, dropout: see `ReducedAttention`.
    """

    def __init__(self, channels: int, num_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.attention = ReducedAttention(channels, num_heads, dropout=dropout)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.conv(F.relu(self.norm2(x)))
        return out


class UTNetEncoder(nn.Module):
    """The encoder half of UTNet: a stem at full size and four stages, each of stride 2 with attention.

    Args:
        width: channels of the stem and of the first stage, divisible by `num_heads`; the stages have 1, 2, 4 and 8
            times as many.
        in_channels: of the image.
        num_heads: heads of the attention.
        dropout: of the attention.
    """

    divisor = 16

    def __init__(self, width: int = 48, in_channels: int = 3, num_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        self.channels = widths[2:]
        self.stem = nn.Sequential(PreActBlock(in_channels, width), PreActBlock(width, width))
        self.stages = nn.ModuleList(
            nn.Sequential(PreActBlock(i, o, 2), AttentionBlock(o, num_heads, dropout)) for i, o in pairwise(widths)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> maps at strides 4, 8, 16."""
        x = self.stem(image)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps[1:])


class HieraEncoder(nn.Module):
    """SAM 2's Hiera as in TP-Seg, without adapters; its coarsest stage is added to stride 16.

    Args:
        backbone: variant of the trunk, see `monai_tpseg.networks.HIERA_VARIANTS`.
        freeze: the trunk gets no gradient and stays in evaluation mode.
        stem: see `build_hiera`.
    """

    divisor = 32

    def __init__(self, backbone: str = "hiera_tiny", freeze: bool = False, stem: Stem = "patch") -> None:
        super().__init__()
        self.hiera = TaskConditionedHiera(build_hiera(backbone, stem), num_tasks=1, adapter="none", freeze=freeze)
        widths = self.hiera.channels
        self.channels = tuple(widths[:3])
        self.lateral = nn.Conv2d(widths[3], widths[2], 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> maps at strides 4, 8, 16."""
        task = torch.zeros(image.shape[0], dtype=torch.long, device=image.device)
        fine, middle, coarse, last = self.hiera(image, task)
        return fine, middle, coarse + F.interpolate(self.lateral(last), scale_factor=2, mode="nearest")
