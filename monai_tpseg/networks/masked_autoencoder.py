"""Masked autoencoding of a trunk: it sees some units of a picture, and a light decoder predicts the others.

The pretraining of Hiera's authors (Ryali et al. 2023, arXiv 2306.00989; He et al. 2022, arXiv 2111.06377): hidden
units are dropped, not replaced by a token, so the cost of a step depends on the visible units alone. A unit is the
32 x 32 pixels of one last-stage token; blocks before the third stage do not look beyond it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from torch import Tensor, nn

from monai_tpseg.networks.kernels import attend, linear

__all__ = ["UNIT", "MaskedAutoencoder", "Reconstruction", "from_units", "to_units"]

UNIT = 32
"""Pixels of a side of a mask unit: the stride of the trunk's last stage."""

_TOKENS = 8  # tokens of a side of a unit at the first stage, whose stride is 4


class Reconstruction(NamedTuple):
    """pixels: (B, U, 3 * 32 * 32), each unit normalised by itself. hidden: (B, U) bool, the hidden units."""

    pixels: Tensor
    hidden: Tensor


def to_units(image: Tensor) -> Tensor:
    """Cut (B, C, H, W) into (B, U, C, 32, 32), row by row."""
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // UNIT, UNIT, width // UNIT, UNIT)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels, UNIT, UNIT)


def from_units(units: Tensor, size: tuple[int, int]) -> Tensor:
    """Assemble (B, U, C, 32, 32) into (B, C, H, W) of `size`; the inverse of `to_units`."""
    batch, _, channels = units.shape[:3]
    grid = units.reshape(batch, size[0] // UNIT, size[1] // UNIT, channels, UNIT, UNIT)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, *size)


class _Visible(NamedTuple):
    """Which units are seen: `units` (B, K) in rising order, `row` and `column` of each, and the (rows, columns)."""

    units: Tensor
    row: Tensor
    column: Tensor
    grid: tuple[int, int]


class MaskedAutoencoder(nn.Module):
    """A trunk, the fusion of its stages and a light decoder; only the trunk is kept after training.

    Args:
        trunk: `sam2`'s Hiera, with either stem.
        image_size: (H, W) of the input, multiples of 32.
        width: channels of the decoder.
        depth: of its transformer blocks.
        heads: of each.

    Raises:
        ValueError: a size not divisible into units, or fewer than four units.
    """

    def __init__(
        self, trunk: Hiera, image_size: tuple[int, int], width: int = 192, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        if any(side % UNIT for side in image_size) or min(image_size) < 2 * UNIT:
            raise ValueError(f"image_size must be multiples of {UNIT} from {2 * UNIT} on, got {image_size}.")
        self.trunk, self.image_size = trunk, image_size
        self.units = (image_size[0] // UNIT) * (image_size[1] // UNIT)
        channels = trunk.channel_list[::-1]
        sides = [_TOKENS // 2**stage for stage in range(len(channels))]
        self.fuse = nn.ModuleList(
            nn.Conv2d(c, channels[-1], side, stride=side) for c, side in zip(channels, sides, strict=True)
        )
        self.norm = nn.LayerNorm(channels[-1])
        self.embed = nn.Linear(channels[-1], width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, self.units, width))
        self.decoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
                for _ in range(depth)
            ),
            nn.LayerNorm(width),
            nn.Linear(width, 3 * UNIT * UNIT),
        )
        for parameter in (self.mask_token, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, image: Tensor, hidden: Tensor) -> Reconstruction:
        """Predict all units of `image` (B, 3, H, W) from those left visible by `hidden` (B, U)."""
        features, visible = self.encode(image, hidden)
        fused = sum(_rows(conv(_maps(stage)), stage) for conv, stage in zip(self.fuse, features, strict=True))
        seen = self.embed(self.norm(fused))
        tokens = self.mask_token.to(seen.dtype).expand(*hidden.shape, -1)
        tokens = tokens.scatter(1, visible[..., None].expand(-1, -1, seen.shape[-1]), seen)
        return Reconstruction(self.decoder(tokens + self.position), hidden)

    def encode(self, image: Tensor, hidden: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run the trunk only on the visible units.

        With nothing hidden, and no window extending beyond the map, these are the trunk's own features, cut into units.

        Args:
            image: (B, 3, H, W).
            hidden: (B, U) bool, the same number in each row, and not all.

        Returns:
            for each stage (B, K, n, n, C), n = 8, 4, 2, 1; and the visible units (B, K) in rising order.

        Raises:
            ValueError: another image size, rows that hide different numbers of units, or all of them.
        """
        seen = _visible(image, hidden, self.image_size)
        tokens = self.trunk.patch_embed(_covered(image, hidden, seen.units))
        tokens = tokens + self.trunk._get_pos_embed(tokens.shape[1:3])  # (B, H / 4, W / 4, C)
        x = _cut_tokens(tokens, seen.units)
        features = []
        for number, block in enumerate(self.trunk.blocks):
            x = _run_block(block, x, seen)
            if number in self.trunk.stage_ends:
                features.append(x)
        return features, seen.units


def _visible(image: Tensor, hidden: Tensor, size: tuple[int, int]) -> _Visible:
    if tuple(image.shape[-2:]) != size:
        raise ValueError(f"The image must be {size[0]} x {size[1]} pixels, got {tuple(image.shape[-2:])}.")
    left = {int(n) for n in (~hidden).sum(1).tolist()}
    if len(left) != 1 or not min(left):
        raise ValueError(f"Every picture must have the same number of visible units, at least one; got {sorted(left)}.")
    index = (~hidden).nonzero()[:, 1].view(len(hidden), -1)
    grid = size[0] // UNIT, size[1] // UNIT
    return _Visible(index, index // grid[1], index % grid[1], grid)


def _covered(image: Tensor, hidden: Tensor, visible: Tensor) -> Tensor:
    """Put visible units of the same picture over the hidden ones.

    The patch embedding looks beyond a unit's edge, and a `ConvStem` normalises over the whole picture. Zeros there, as
    the authors put them, would give its statistics a void that no picture has later.
    """
    donor = visible.gather(1, (hidden.cumsum(1) - 1).clamp(min=0) % visible.shape[1])
    own = torch.arange(hidden.shape[1], device=hidden.device).expand_as(hidden)
    chosen = torch.where(hidden, donor, own)[:, :, None, None, None]
    units = to_units(image)
    return from_units(units.gather(1, chosen.expand_as(units)), (image.shape[-2], image.shape[-1]))


def _cut_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, h, w, C) -> the units of `index`, (B, K, 8, 8, C)."""
    batch, height, width, channels = tokens.shape
    cut = tokens.reshape(batch, height // _TOKENS, _TOKENS, width // _TOKENS, _TOKENS, channels)
    cut = cut.transpose(2, 3).reshape(batch, -1, _TOKENS, _TOKENS, channels)
    return cut.gather(1, index[:, :, None, None, None].expand(-1, -1, *cut.shape[2:]))


def _maps(units: Tensor) -> Tensor:
    """(B, K, n, n, C) -> (B K, C, n, n)."""
    return units.flatten(0, 1).permute(0, 3, 1, 2)


def _rows(fused: Tensor, like: Tensor) -> Tensor:
    """(B K, C, 1, 1) -> (B, K, C)."""
    return fused.flatten(1).view(*like.shape[:2], -1)


def _run_block(block: MultiScaleBlock, x: Tensor, seen: _Visible) -> Tensor:
    """A block of the trunk on visible units, (B, K, n, n, C) -> (B, K, n', n', C')."""
    normed = block.norm1(x)
    if block.dim != block.dim_out:
        x = _pool(linear(normed, block.proj.weight, block.proj.bias), block)
    x = x + _attention(block, normed, seen)
    first, second = block.mlp.layers
    hidden = F.gelu(linear(block.norm2(x), first.weight, first.bias))
    return x + linear(hidden, second.weight, second.bias)


def _pool(x: Tensor, block: MultiScaleBlock) -> Tensor:
    """Max-pool inside of units."""
    if not block.q_stride:
        return x
    pooled = F.max_pool2d(_maps(x), block.q_stride).permute(0, 2, 3, 1)
    return pooled.reshape(*x.shape[:2], *pooled.shape[1:])


def _attention(block: MultiScaleBlock, x: Tensor, seen: _Visible) -> Tensor:
    """Attention among the visible tokens of a window: of a unit, of several, or of the whole map."""
    batch, units, side = x.shape[:3]
    query, key, value = linear(x, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, dim=-1)
    query = _pool(query, block)
    alone = block.window_size == side
    q, k, v = (_heads(t, block.attn.num_heads, alone) for t in (query, key, value))
    mask = None if alone else _same_window(block.window_size, side, query.shape[2], seen)
    if mask is None:
        mixed = attend(q, k, v, None, q.shape[-1] ** -0.5)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
    mixed = mixed.transpose(1, 2).reshape(batch, units, *query.shape[2:])
    return linear(mixed, block.attn.proj.weight, block.attn.proj.bias)


def _heads(x: Tensor, heads: int, alone: bool) -> Tensor:
    """(B, K, n, n, C) -> (B K, heads, n n, d), or (B, heads, K n n, d)."""
    flat = x.flatten(0, 1).flatten(1, 2) if alone else x.flatten(1, 3)
    return flat.reshape(*flat.shape[:2], heads, -1).transpose(1, 2)


def _same_window(window: int, side: int, queries: int, seen: _Visible) -> Tensor | None:
    """(B, 1, K q q, K n n) bool, whether key and query lie in one window; None where there is one window.

    Args:
        window: tokens of its side, 0 for the whole map.
        side: n, tokens of a unit's side.
        queries: q, those after pooling.
        seen: the units.
    """
    if not window or window >= max(seen.grid) * side:
        return None
    keys = _window_of(window, side, side, seen)
    asked = _window_of(window, side, queries, seen)
    return (asked[:, :, None] == keys[:, None]).unsqueeze(1)


def _window_of(window: int, side: int, number: int, seen: _Visible) -> Tensor:
    """(B, K m m): the number of the window in which each of m x m places of a unit lies."""
    steps = torch.arange(number, device=seen.row.device) * (side // number)
    rows = (seen.row[..., None] * side + steps) // window  # (B, K, m)
    columns = (seen.column[..., None] * side + steps) // window
    across = seen.grid[1] * side // window + 1
    return (rows[..., :, None] * across + columns[..., None, :]).flatten(1)
