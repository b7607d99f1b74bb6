"""The encoder for inference: the same function as `TaskConditionedHiera` with hard gates, with less work around it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache, reduce
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock
from torch import Tensor, nn

from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.kernels import attend, in_parts, linear, on_plain_cpu
from monai_tpseg.networks.layers import is_tracing

__all__ = ["FastBlock", "FoldedAdapter", "PackedLinear"]


class PackedLinear(nn.Module):
    """A linear layer that keeps its bf16 weights in oneDNN's CPU layout beside the plain ones.

    PyTorch's own layer reorders them in every call. Here the first call creates the reordered copy; it is excluded from
    copies and files, and discarded when the weights change type, device or values.

    Args:
        layer: whose parameters are taken over.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.out_features = layer.out_features
        self._packed: Tensor | None = None

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(..., C_in) -> (..., C_out), through a GELU where `gelu`."""
        differentiable = torch.is_grad_enabled() and x.requires_grad
        if x.dtype != torch.bfloat16 or differentiable or not on_plain_cpu(x) or not _packs():
            result = linear(x, self.weight, self.bias)
            return F.gelu(result) if gelu else result
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), x.numel() // x.shape[-1])
        after = "gelu" if gelu else "none"
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, after, [], "none")
        return packed

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLinear:
        self._packed = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}


@cache
def _packs() -> bool:
    """Whether this build and processor support products of packed bf16 matrices."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class FastBlock(nn.Module):
    """One block of the trunk, with the weights and the function of `sam2`'s `MultiScaleBlock`.

    Windows are cut after the projection to queries, keys and values and merged after attention, in the same copies that
    separate the heads; the scale of the scores is folded into the weights.

    Args:
        block: of the trunk, copied.
    """

    def __init__(self, block: MultiScaleBlock) -> None:
        super().__init__()
        block = copy.deepcopy(block).eval().requires_grad_(False)
        self.norm1: nn.LayerNorm = block.norm1
        self.norm2: nn.LayerNorm = block.norm2
        self.qkv, self.merge = PackedLinear(block.attn.qkv), PackedLinear(block.attn.proj)
        self.mlp_in, self.mlp_out = (PackedLinear(layer) for layer in block.mlp.layers)
        self.shortcut = PackedLinear(block.proj) if block.dim != block.dim_out else None
        self.heads: int = block.attn.num_heads
        self.window: int = block.window_size
        self.stride: int = block.q_stride[0] if block.q_stride else 1
        width: int = block.dim_out // self.heads
        with torch.no_grad():
            for part in (self.qkv.weight, self.qkv.bias):
                part[: block.dim_out] *= width**-0.5

    def forward(self, h: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), half the size where the block pools."""
        normed = self.norm1(h)
        if self.shortcut is not None:
            h = _pool(self.shortcut(normed), self.stride)
        h = h + self._attention(normed)
        tokens = h.flatten(0, 2)
        return torch.cat([self._mlp(part) for part in in_parts(tokens, self.mlp_in.out_features)]).view_as(h)

    def _mlp(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.mlp_out(self.mlp_in(self.norm2(x), gelu=True))
        return result

    def _attention(self, x: Tensor) -> Tensor:
        """Attention inside of windows, or over the whole map: (B, h, w, C) -> (B, h', w', C')."""
        batch, height, width, channels = x.shape
        rows, columns = (self.window, self.window) if self.window else (height, width)
        if is_tracing() or height % rows or width % columns:
            x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        bands = x.reshape(-1, rows, x.shape[2], channels)  # a band is one row of windows
        parts = in_parts(bands, self.qkv.out_features * rows * x.shape[2])
        result = torch.cat([self.merge(self._windows(part, columns)) for part in parts])
        result = result.view(batch, -1, *result.shape[2:])
        return result[:, : height // self.stride, : width // self.stride]

    def _windows(self, x: Tensor, columns: int) -> Tensor:
        """Attention inside of the windows of bands, heads side by side: (G, h, w, C) -> (G, h', w', C')."""
        bands, rows, across = x.shape[0], x.shape[1], x.shape[2] // columns
        qkv = self.qkv(x).view(bands, rows, across, columns, 3, self.heads, -1)
        # (3, G, across, heads, rows, columns, d): every window of every head in one piece
        query, key, value = qkv.permute(4, 0, 2, 5, 1, 3, 6).contiguous().unbind(0)
        if self.stride > 1:
            query = _largest(_largest(query, 3, self.stride), 4, self.stride)
            rows, columns = rows // self.stride, columns // self.stride
        result = attend(*(part.reshape(bands * across, self.heads, -1, part.shape[-1]) for part in (query, key, value)))
        result = result.view(bands, across, self.heads, rows, columns, -1).permute(0, 3, 1, 4, 2, 5)
        return result.reshape(bands, rows, across * columns, -1)


def _largest(x: Tensor, axis: int, stride: int) -> Tensor:
    """The largest of every `stride` neighbours along an axis."""
    neighbours = torch.unflatten(x, axis, (-1, stride)).unbind(axis + 1)
    return reduce(torch.maximum, neighbours)


def _pool(x: Tensor, stride: int) -> Tensor:
    """Max-pool (B, h, w, C)."""
    if stride == 1:
        return x
    return F.max_pool2d(x.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)


class FoldedAdapter(nn.Module):
    """The adapter before one block, one route per call, with its normalisation folded into the first projection.

    GroupNorm with one group is (x - mean) / std with two numbers per sample, then a scale and a shift per channel, so

        Down(GN(x)) = (Down diag(scale)) x / std + (Down shift - mean / std * Down scale),

    and no normalised copy of x is made.

    Args:
        adapter: whose rows are copied.
        rows: the required routes, each a row of the task parameters, or None for the shared route.
        dtype: of the two projections; the two small vectors stay in float32.
    """

    down: Tensor
    up: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, adapter: TaskAdapter, rows: Iterable[int | None], dtype: torch.dtype) -> None:
        super().__init__()
        self.rows = list(rows)
        self.eps = adapter.norm.eps
        pairs = [_route(adapter, row) for row in self.rows]
        down, up = (torch.stack(parts).detach().float() for parts in zip(*pairs, strict=True))
        folded = down * adapter.norm.weight.detach()
        self.register_buffer("down", folded.transpose(1, 2).to(dtype).contiguous())  # (R, C, r)
        self.register_buffer("up", up.transpose(1, 2).to(dtype).contiguous())  # (R, r, C)
        self.register_buffer("shift", down @ adapter.norm.bias.detach())  # (R, r)
        self.register_buffer("slope", folded.sum(2))

    def route(self, row: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return down (C, r), up (r, C), shift (r,) and slope (r,) of a route, one of `rows`."""
        r = self.rows.index(row)
        return self.down[r], self.up[r], self.shift[r], self.slope[r]

    def forward(self, h: Tensor, down: Tensor, up: Tensor, shift: Tensor, slope: Tensor) -> Tensor:
        """(B, h, w, C) -> the same, by one route: with numbers of rows here, each would be compiled anew."""
        flat = h.flatten(1)
        mean = flat.sum(1, dtype=torch.float32) / flat.shape[1]
        # by token first: one sum over millions of numbers, as a norm adds them, loses four digits of float32
        lengths = torch.linalg.vector_norm(h, dim=3, dtype=torch.float32)
        square = lengths.flatten(1).square().sum(1) / flat.shape[1]
        scale = (square - mean.square()).clamp_min(0).add(self.eps).rsqrt().view(-1, 1, 1)
        tokens = h.flatten(1, 2)
        shift = shift - mean.view(-1, 1, 1) * scale * slope  # (B, 1, r)
        hidden = torch.addcmul(shift.to(h.dtype), torch.matmul(tokens, down), scale.to(h.dtype))
        hidden = F.gelu(hidden)
        return torch.addmm(tokens.flatten(0, 1), hidden.flatten(0, 1), up).view_as(h)


def _route(adapter: TaskAdapter, row: int | None) -> tuple[Tensor, Tensor]:
    """Return the down (r, C) and up (C, r) matrices of one route, with the factor of the released layout in `up`."""
    if row is None:
        return adapter.shared_down, adapter.shared_up
    scale = 1.0 if adapter.task_scale is None else adapter.task_scale[row]
    return adapter.task_down[row], adapter.task_up[row] * scale
