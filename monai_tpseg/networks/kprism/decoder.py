"""The decoder: queries and pixels attend to each other, coarse to fine, and each layer draws a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism.blocks import ChannelGatedBlock, sine_position, to_map, to_tokens
from monai_tpseg.networks.kprism.interactive import pool_clicks
from monai_tpseg.networks.kprism.moe import MixtureAttention, MixtureFFN
from monai_tpseg.networks.kprism.queries import Queries
from monai_tpseg.networks.layers import resize

__all__ = ["DecoderLayer", "DecoderOutput", "DualPromptDecoder", "MaskHead", "attention_mask"]

STRIDES = (16, 8, 4)
"""Of the levels, coarsest first."""


class DecoderOutput(NamedTuple):
    """Output of the decoder.

    logits: of every layer, (B, 1, h, w) at the size of its level, first layer first.
    finest: the last state of the pixels at stride 4, (B, C, H / 4, W / 4).
    """

    logits: tuple[Tensor, ...]
    finest: Tensor


class MaskHead(nn.Sequential):
    """Logits from pixels: 3x3 to a narrow width, two residual blocks, 3x3 to one channel.

    Args:
        channels: C.
        width: of the blocks.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, 1, 1),
            ChannelGatedBlock(width, kernel_size=0),
            ChannelGatedBlock(width, kernel_size=0),
            nn.Conv2d(width, 1, 3, 1, 1),
        )


class DecoderLayer(nn.Module):
    """Queries attend to pixels and to each other, then pixels attend to queries; all post-norm.

    In this order: `look`, cross-attention from queries to pixels; `talk`, self-attention of the queries; `think`, their
    feed-forward network; `listen`, cross-attention from pixels to queries; `draw`, a convolutional block on the pixels.
    The names are keys of published weights.

    Args:
        channels: C.
        num_experts: M of the mixtures.
        num_heads: heads of every attention.
    """

    def __init__(self, channels: int, num_experts: int = 5, num_heads: int = 8) -> None:
        super().__init__()
        self.look = MixtureAttention(channels, num_experts, num_heads)
        self.look_norm = nn.LayerNorm(channels)
        self.talk = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.talk_norm = nn.LayerNorm(channels)
        self.think = MixtureFFN(channels, num_experts)
        self.think_norm = nn.LayerNorm(channels)
        self.listen = MixtureAttention(channels, num_experts, num_heads)
        self.listen_norm = nn.LayerNorm(channels)
        self.draw = ChannelGatedBlock(channels)

    def forward(
        self, q: Tensor, x: Tensor, e: Tensor, p: Tensor, blocked: Tensor | None, present: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Update queries and pixels.

        Args:
            q: queries (B, Q, C).
            x: pixels (B, h * w, C).
            e: positions of the queries (B, Q, C).
            p: positions of the pixels (1, h * w, C).
            blocked: (B, Q, h * w) bool, pixels hidden from each query, or None.
            present: (B, Q) bool, which queries exist.
            size: (h, w).
        """
        q = self.look_norm(q + self.look(q, x, e, p, blocked))
        talked, _ = self.talk(q + e, q + e, q, key_padding_mask=~present, need_weights=False)
        q = self.talk_norm(q + talked)
        q = self.think_norm(q + self.think(q))
        x = self.listen_norm(x + self.listen(x, q, p, e, ~present.unsqueeze(1)))
        return q, to_tokens(self.draw(to_map(x, size)))


class DualPromptDecoder(nn.Module):
    """Layers over the levels 16, 8, 4, 16, ...: each starts from its level's last state and the layer before.

    Args:
        channels: C.
        num_layers: at least 3.
        num_experts, num_heads: see `DecoderLayer`.
        head_channels: width of the mask heads, one per level.

    Raises:
        ValueError: fewer than 3 layers.
    """

    def __init__(
        self,
        channels: int = 256,
        num_layers: int = 6,
        num_experts: int = 5,
        num_heads: int = 8,
        head_channels: int = 32,
    ) -> None:
        super().__init__()
        if num_layers < len(STRIDES):
            raise ValueError(f"num_layers must be at least {len(STRIDES)}, one per level; got {num_layers}.")
        self.layers = nn.ModuleList(DecoderLayer(channels, num_experts, num_heads) for _ in range(num_layers))
        self.resample = nn.ModuleList(
            nn.ConvTranspose2d(channels, channels, 2, 2) if i % len(STRIDES) else nn.Conv2d(channels, channels, 4, 4)
            for i in range(1, num_layers)
        )
        self.heads = nn.ModuleList(MaskHead(channels, head_channels) for _ in STRIDES)

    def forward(
        self,
        pixels: Sequence[Tensor],
        queries: Queries,
        clicks: Tensor | None = None,
        valid: Sequence[Tensor] | None = None,
    ) -> DecoderOutput:
        """Decode.

        Args:
            pixels: X per level, coarsest first, (B, C, h, w).
            queries: Q tokens; those of the clicks are the last ones.
            clicks: (B, N, 3) whose surroundings refresh the last N queries at every layer.
            valid: per level (B, h * w) bool, False for padding, which no query looks at; None where there is none.
        """
        states = list(pixels)
        q, x = queries.start, states[0]
        outputs: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            level = i % len(STRIDES)
            whole = None if valid is None else valid[level]
            if i:
                x = states[level] + self.resample[i - 1](x)
            size = (x.shape[2], x.shape[3])
            blocked = attention_mask(outputs[-1] if outputs else None, queries.foreground, size, whole)
            tokens, position = to_tokens(x), sine_position(size, x.shape[1], x.device).to(x.dtype).unsqueeze(0)
            q = _refreshed(q + queries.refresh[level], tokens, size, clicks, STRIDES[level], whole)
            q, tokens = layer(q, tokens, queries.position[level], position, blocked, queries.present, size)
            x = states[level] = to_map(tokens, size)
            outputs.append(self.heads[level](x))
        return DecoderOutput(tuple(outputs), states[-1])


def _refreshed(
    q: Tensor, tokens: Tensor, size: tuple[int, int], clicks: Tensor | None, stride: int, valid: Tensor | None
) -> Tensor:
    """Add the surroundings of the clicks to their queries, the last ones."""
    if clicks is None:
        return q
    around = pool_clicks(tokens, size, clicks, stride, valid)
    before = q.shape[1] - around.shape[1]
    return torch.cat([q[:, :before], q[:, before:] + around], dim=1)


def attention_mask(
    logits: Tensor | None, foreground: Tensor, size: tuple[int, int], valid: Tensor | None
) -> Tensor | None:
    """Return the blocked pixels of each query, from the last layer's mask.

    Foreground queries attend inside the mask, the others outside; a query without any pixel attends to all but the
    padding. No gradient flows through the decision.

    Args:
        logits: (B, 1, h', w') or None before there is a mask.
        foreground: (B, Q) bool.
        size: (h, w) of the pixels.
        valid: (B, h * w) bool, False for padding, or None.

    Returns:
        (B, Q, h * w) bool, True where attention is blocked; None if nothing is blocked.
    """
    padding = None if valid is None else ~valid.unsqueeze(1)
    if logits is None:
        return None if padding is None else padding.expand(-1, foreground.shape[1], -1)
    mask = resize(logits.detach().float(), size).flatten(2)  # (B, 1, h * w)
    inside = foreground.unsqueeze(-1)
    blocked = (inside & (mask < 0)) | (~inside & (mask > 0))  # not `where`: ONNX Runtime has none for truth values
    if padding is None:
        return blocked & ~blocked.all(-1, keepdim=True)
    blocked = blocked | padding
    return torch.where(blocked.all(-1, keepdim=True), padding, blocked)
