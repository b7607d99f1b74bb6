"""One trunk block in its fastest form for a CPU, also for training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock
from torch import Tensor, nn

from monai_tpseg.networks.compiled import is_compiled
from monai_tpseg.networks.kernels import attend, linear, on_plain_cpu

__all__ = ["run_block"]


def run_block(block: MultiScaleBlock, h: Tensor) -> Tensor:
    """Run `block` on `h`, (B, h, w, C) -> (B, h', w', C').

    On a CPU, windows that extend beyond the map are not padded. The zero rows added by `sam2` all give the same key and
    value, the bias of their projection, and are equivalent to one key whose score is raised by the logarithm of their
    number. At 256 x 256 pixels, two thirds of the rows projected by Hiera-T's windows of 14 are padding.
    """
    drops = block.training and not isinstance(block.drop_path, nn.Identity)
    if is_compiled(block) or not on_plain_cpu(h) or _has_hooks(block) or drops:
        result: Tensor = block(h)
        return result
    normed = block.norm1(h)
    if block.dim != block.dim_out:
        h = _pool(linear(normed, block.proj.weight, block.proj.bias), block)
    h = h + _attention(block, normed)
    first, second = block.mlp.layers
    hidden = F.gelu(linear(block.norm2(h), first.weight, first.bias))
    return h + linear(hidden, second.weight, second.bias)


def _has_hooks(block: MultiScaleBlock) -> bool:
    """Whether something hooked onto the block or a part of it wants to be called."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for module in block.modules() for name in hooks)


def _attention(block: MultiScaleBlock, x: Tensor) -> Tensor:
    """Attention inside of windows, or over the whole map: (B, h, w, C) -> (B, h', w', C')."""
    side = block.window_size
    if not side:
        return _windows(block, x, max(x.shape[1:3]))
    bands = [_joined([_windows(block, part, side) for part in _cut(band, 2, side)], 2) for band in _cut(x, 1, side)]
    return _joined(bands, 1)


def _cut(x: Tensor, axis: int, side: int) -> list[Tensor]:
    """Cut an axis into what whole windows cover and what is left."""
    rest = x.shape[axis] % side
    return [part for part in torch.split(x, [x.shape[axis] - rest, rest], axis) if part.shape[axis]]


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _windows(block: MultiScaleBlock, x: Tensor, side: int) -> Tensor:
    """Attention inside of windows of one size: `side`, or that of the map where it is smaller."""
    batch, height, width, channels = x.shape
    rows, columns, heads = min(side, height), min(side, width), block.attn.num_heads
    down, across = height // rows, width // columns
    x = x.view(batch, down, rows, across, columns, channels).transpose(2, 3).reshape(-1, rows, columns, channels)
    query, key, value = linear(x, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, dim=-1)
    query = _pool(query, block)
    rows, columns = query.shape[1:3]
    # (G, rows, columns, C') -> (G, heads, n, d)
    query, key, value = (
        t.reshape(len(t), -1, heads, t.shape[-1] // heads).transpose(1, 2) for t in (query, key, value)
    )
    mask = None
    if block.window_size and key.shape[2] < side * side:
        key, value, mask = _with_filling(block, key, value, side * side - key.shape[2])
    result = attend(query, key, value, mask, query.shape[-1] ** -0.5).transpose(1, 2).flatten(2)
    result = linear(result, block.attn.proj.weight, block.attn.proj.bias)
    result = result.view(batch, down, across, rows, columns, -1).transpose(2, 3)
    return result.reshape(batch, down * rows, across * columns, -1)


def _with_filling(block: MultiScaleBlock, key: Tensor, value: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Add the key and value standing for `count` tokens of zeros to (G, heads, n, d), and a mask that weighs it."""
    shape = (len(key), block.attn.num_heads, 1, key.shape[-1])
    _, b_k, b_v = (b.view(1, *shape[1:]).expand(shape) for b in block.attn.qkv.bias.to(key.dtype).chunk(3))
    mask = key.new_zeros(1, key.shape[2] + 1)
    mask[:, -1] = math.log(count)
    return torch.cat([key, b_k], dim=2), torch.cat([value, b_v], dim=2), mask


def _pool(x: Tensor, block: MultiScaleBlock) -> Tensor:
    """Max-pool (B, h, w, C) as the block does."""
    if not block.q_stride:
        return x
    return F.max_pool2d(x.permute(0, 3, 1, 2), block.q_stride).permute(0, 2, 3, 1)
