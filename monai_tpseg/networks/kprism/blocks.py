"""Small parts shared by the boxes of K-Prism: residual blocks, the channel gate, sine positions, masked pooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelGatedBlock", "PreActBlock", "masked_pool", "sine_position", "to_map", "to_tokens"]


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), the decoder's layout of pixels."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w), channels last in memory."""
    return tokens.transpose(1, 2).unflatten(2, size)  # type: ignore[no-untyped-call, no-any-return]


class PreActBlock(nn.Module):
    """Residual block of two 3x3 convolutions, each after batch norm and ReLU, as in UTNet.

    Args:
        in_channels: of the input.
        out_channels: of the result.
        stride: of the first convolution and of the 1x1 shortcut, which exists where size or width changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), conv)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        out: Tensor = y + self.shortcut(x)
        return out


class ChannelGatedBlock(nn.Module):
    """Residual block of two 3x3 convolutions after ReLU, the second one's channels scaled by an ECA gate.

    The gate is a one-dimensional convolution over the channel means (efficient channel attention), then a sigmoid.

    Args:
        channels: C.
        kernel_size: neighbouring channels seen by the gate, odd; 0 disables the gate.
    """

    def __init__(self, channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.gate = nn.Conv1d(1, 1, kernel_size, 1, kernel_size // 2, bias=False) if kernel_size else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        if self.gate is not None:
            scale = torch.sigmoid(self.gate(y.mean((2, 3)).unsqueeze(1)))  # (B, 1, C)
            y = y * scale.transpose(1, 2).unsqueeze(-1)
        out: Tensor = x + y
        return out


def sine_position(
    size: tuple[int, int],
    channels: int,
    device: torch.device,
    scale: float = 2 * math.pi,
    temperature: float = 10000.0,
) -> Tensor:
    """Return the fixed sine encoding of every pixel, rows in the first half of the channels, columns in the second.

    Args:
        size: (h, w).
        channels: C, divisible by 4.
        device: of the result.
        scale: value of the last row and column.
        temperature: ratio between the slowest and the fastest wave.

    Returns:
        (h * w, C) float32.
    """
    quarter = torch.arange(channels // 4, device=device, dtype=torch.float32)
    wave = temperature ** (-4.0 * quarter / channels)
    axes = []
    for n in size:
        place = torch.arange(1, n + 1, device=device, dtype=torch.float32) / n * scale
        angle = place.unsqueeze(1) * wave
        axes.append(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1))  # (n, C / 2)
    rows, columns = axes
    grid = torch.cat([rows.unsqueeze(1).expand(-1, size[1], -1), columns.unsqueeze(0).expand(size[0], -1, -1)], dim=-1)
    return grid.flatten(0, 1)


def masked_pool(values: Tensor, weights: Tensor, smooth: float = 1e-4) -> Tensor:
    """Return weighted means of pixels.

    Args:
        values: (B, N, C).
        weights: (B, N, S), 0 or more.
        smooth: added to the sum of the weights, so that all-zero weights give zeros.

    Returns:
        (B, S, C) float32.
    """
    with torch.autocast(values.device.type, enabled=False):
        weights = weights.float()
        sums = weights.transpose(1, 2) @ values.float()
        return sums / (weights.sum(1).unsqueeze(-1) + smooth)
