"""In-context knowledge: reference images with masks, as pixels and as a few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.kprism.blocks import masked_pool, sine_position, to_map, to_tokens
from monai_tpseg.networks.kprism.queries import Queries

__all__ = ["InContextPrompt", "Memory", "read_memory"]

# waves of the position inside an exemplar
SCALE, TEMPERATURE = 32.0, 128.0


class Memory(NamedTuple):
    """Encoded exemplars of a batch, K per sample, independent of the image to segment.

    keys: (B, K * h * w, C) image features at stride 16.
    values: (B, K * h * w, C) features of image and mask at stride 16.
    summaries: per level, coarsest first, (B, K, S, D).
    valid: (B, K * h * w) bool, False for padding; None where there is none.
    present: (B, K) bool, whether an exemplar exists.
    """

    keys: Tensor
    values: Tensor
    summaries: tuple[Tensor, ...]
    valid: Tensor | None
    present: Tensor


def read_memory(feature: Tensor, memory: Memory) -> Tensor:
    """Dense prompt: the values of the exemplars where their features resemble the query's.

    S_ij = (2 k_i . q_j - |k_i|^2) / sqrt(C), softmax over all pixels i of all exemplars. The order of the exemplars
    does not matter. Computed in float32.

    Args:
        feature: q (B, C, h, w) at stride 16.
        memory: encoded exemplars.

    Returns:
        (B, C, h, w), which replaces `feature`.
    """
    with torch.autocast(feature.device.type, enabled=False):
        query, keys, values = to_tokens(feature).float(), memory.keys.float(), memory.values.float()
        scale = query.shape[-1] ** -0.5
        bias = -scale * keys.square().sum(-1).unsqueeze(1)  # (B, 1, N)
        if memory.valid is not None:
            bias = bias.masked_fill(~memory.valid.unsqueeze(1), float("-inf"))
        bias = bias.expand(-1, query.shape[1], -1)
        read = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=2 * scale)
    return to_map(read, (feature.shape[2], feature.shape[3])).to(feature.dtype)


class InContextPrompt(nn.Module):
    """Sparse prompt: S summaries of each exemplar and level, the first half of the object, the others of the rest.

    Args:
        in_channels: widths of the mask encoder, coarsest first.
        channels: D, the width of the tokens.
        summaries: S, even.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, summaries: int = 6) -> None:
        super().__init__()
        self.per_side = summaries // 2
        self.project = nn.ModuleList(nn.Linear(c, channels) for c in in_channels)
        self.feature = nn.ModuleList(_two_layers(channels, channels) for _ in in_channels)
        self.gate = nn.ModuleList(_two_layers(channels, summaries) for _ in in_channels)
        self.query = nn.Parameter(torch.randn(summaries, channels))
        self.position = nn.Parameter(torch.randn(summaries, channels))
        self.to_query = nn.Linear(channels, channels)
        self.to_position = nn.Linear(channels, channels)

    def summarise(self, value: Tensor, label: Tensor, valid: Tensor | None, level: int) -> Tensor:
        """Summarise the exemplars of one level.

        Args:
            value: V_l (N, C_l, h, w).
            label: (N, 1, H, W) in [0, 1].
            valid: (N, 1, H, W) in {0, 1} or None.
            level: number of the level, 0 the coarsest.

        Returns:
            (N, S, D) float32.
        """
        size = (value.shape[2], value.shape[3])
        tokens = self.project[level](to_tokens(value))
        place = sine_position(size, tokens.shape[-1], tokens.device, SCALE, TEMPERATURE)
        tokens = tokens + place.to(tokens.dtype)
        whole = torch.ones_like(label) if valid is None else valid
        areas = [F.interpolate(part, size=size, mode="area") for part in (label * whole, (1 - label) * whole)]
        region = to_tokens(torch.cat([a.expand(-1, self.per_side, -1, -1) for a in areas], dim=1))  # (N, h * w, S)
        return masked_pool(self.feature[level](tokens), self.gate[level](tokens).float().sigmoid() * region)

    def forward(self, memory: Memory) -> Queries:
        """Convert the summaries of K exemplars into K * S tokens per sample."""
        batch, exemplars, number, _ = memory.summaries[0].shape

        def tiled(learned: Tensor) -> Tensor:
            return learned.repeat(exemplars, 1).expand(batch, -1, -1)

        said = [s.flatten(1, 2) for s in memory.summaries]
        content, position = tiled(self.query), tiled(self.position)
        foreground = (torch.arange(number, device=content.device) < self.per_side).repeat(exemplars).expand(batch, -1)
        present = memory.present.repeat_interleave(number, dim=1)
        refresh = tuple(self.to_query(s) for s in said)
        return Queries(content, refresh, tuple(position + self.to_position(s) for s in said), foreground, present)


def _two_layers(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, out_channels))
