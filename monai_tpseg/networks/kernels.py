"""The few operations that dominate the run time, each in the fastest form for the device.

On an accelerator these are PyTorch's own. On a CPU, PyTorch sends float32 matrix products to a library that uses only
half the vector width of some vendors' processors, and bf16 attention to a kernel whose backward pass is many times
slower than batched products. Here they run as convolutions and batched products instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from monai_tpseg.networks.layers import is_recorded

__all__ = [
    "attend",
    "depthwise_by_taps",
    "depthwise_per_sample",
    "in_parts",
    "linear",
    "norm_channels_last",
    "on_plain_cpu",
]

_PART = 10 * 2**20  # bytes of an intermediate: much larger ones would be new memory from the system, page by page
_IMAGES = 16  # from so many on, PyTorch sends 1x1 convolutions to oneDNN on one thread too
_LEAST_ROWS = 64  # of a product that is worth the way through a convolution
_SCORES = 2**21  # attention scores that one product may make without a graph: they stay in the cache
_KEPT_SCORES = 2**27  # attention scores that a graph may keep a call; above, the kernel that makes them again


def on_plain_cpu(x: Tensor) -> bool:
    """Whether `x` lies on a CPU and what is computed with it is not recorded."""
    return x.device.type == "cpu" and not is_recorded()


def in_parts(x: Tensor, width: int) -> Sequence[Tensor]:
    """Split the first axis to keep an intermediate of `width` numbers per entry small; never on an accelerator."""
    if not on_plain_cpu(x):
        return (x,)
    return x.chunk(-(-len(x) * width * x.element_size() // _PART))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., C_in), (C_out, C_in) -> (..., C_out), as `F.linear`.

    On a CPU, float32 runs as a 1x1 convolution in oneDNN. Tensors not needed by the backward pass, such as the input of
    a frozen weight, are not stored.
    """
    if x.dtype != torch.float32 or not on_plain_cpu(x) or torch.is_autocast_enabled("cpu") or not _images(x):
        if not on_plain_cpu(x):
            return F.linear(x, weight, bias)
        # in two dimensions, as the gradient of more is multiplied with a copy of the weight for each entry of the first
        return F.linear(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)
    if not torch.is_grad_enabled():
        return _as_convolution(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def _images(x: Tensor) -> int:
    """Return into how many images of equal size the rows of `x` are cut for oneDNN; 0 where that is not possible."""
    rows = x.numel() // x.shape[-1]
    if not torch._C._has_mkldnn or rows < _LEAST_ROWS:
        return 0
    return next((n for n in range(_IMAGES, 2 * _IMAGES) if rows % n == 0), 0)


def _as_images(x: Tensor) -> Tensor:
    """(..., C) -> (images, C, n, 1), channels last, without a copy where `x` is contiguous."""
    return x.reshape(_images(x), -1, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result = F.conv2d(_as_images(x), weight[..., None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    """`linear` with a graph that keeps the input only for a weight that trains."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _as_convolution(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x = _as_convolution(grad, weight.t(), None) if ctx.needs_input_grad[0] else None
        for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            kernel, mask = weight[..., None, None], [False, True, False]
            images = (_as_images(grad), _as_images(x), kernel)
            options = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
            for_weight = torch.ops.aten.convolution_backward(*images, None, *options, mask)[1].view_as(weight)
        if ctx.needs_input_grad[2]:
            for_bias = grad.flatten(0, -2).sum(0)
        return for_x, for_weight, for_bias


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """Softmax attention of (G, heads, n, d) queries over (G, heads, m, d) keys and values -> (G, heads, n, d).

    Uses PyTorch's own kernel, except for bf16 on a CPU, where batched products are several times faster.

    Args:
        query, key, value: as above.
        mask: (1 or n, m), added to the scores.
        scale: of the scores.
    """
    scores = query.shape[:3].numel() * key.shape[2]
    by_products = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if not by_products or (torch.is_grad_enabled() and scores > _KEPT_SCORES):
        return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)
    shape, (query, key, value) = query.shape, (t.flatten(0, 1) for t in (query, key, value))
    if is_recorded() or torch.is_grad_enabled():
        return torch.bmm(_weights(query, key, mask, scale), value).view(shape)
    step = max(1, _SCORES // (query.shape[1] * key.shape[1]))
    result = torch.empty_like(query)
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        torch.bmm(_weights(query[part], key[part], mask, scale), value[part], out=result[part])
    return result.view(shape)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = torch.bmm(query if scale == 1.0 else query * scale, key.transpose(1, 2))
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1)


def norm_channels_last(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Apply a GroupNorm with one group to (B, h, w, C): statistics per sample, scale and shift per channel."""
    # a CPU's kernel knows channels-last maps; in PyTorch 2.11 its backward pass crashes where x needs no gradient
    crashes = torch.is_grad_enabled() and norm.weight.requires_grad and not x.requires_grad
    if on_plain_cpu(x) and not crashes:
        return F.group_norm(x.permute(0, 3, 1, 2), 1, norm.weight, norm.bias, norm.eps).permute(0, 2, 3, 1)
    # a norm of PyTorch's gives one block of a GPU to each sample, a reduction as many as there are
    variance, mean = torch.var_mean(x.flatten(1).float(), 1, correction=0)
    scale = (variance + norm.eps).rsqrt()[:, None] * norm.weight.float()  # (B, C)
    shift = norm.bias.float() - mean[:, None] * scale
    return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


def depthwise_per_sample(x: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise 3x3 convolution of x (B, C, h, w) with a kernel per sample (B, C, 3, 3), zeros around."""
    if is_recorded():  # the number of groups would be baked into the record, and with it the batch size
        return depthwise_by_taps(x, kernel)
    batch, channels, height, width = x.shape
    groups, weight = batch * channels, kernel.reshape(-1, 1, 3, 3)
    if x.device.type != "cpu":
        return F.conv2d(x.reshape(1, groups, height, width), weight, padding=1, groups=groups).view_as(x)
    # on a CPU the samples lie side by side in the channels of one map, channels last
    joined = x.permute(2, 3, 0, 1).reshape(1, height, width, groups).permute(0, 3, 1, 2)
    joined = F.conv2d(joined, weight, padding=1, groups=groups).permute(0, 2, 3, 1).view(height, width, batch, channels)
    return joined.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def depthwise_by_taps(x: Tensor, kernel: Tensor) -> Tensor:
    """As `depthwise_per_sample`, tap by tap, for any batch size."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    taps = [
        padded[..., i : i + height, j : j + width] * kernel[:, :, i, j].unsqueeze(-1).unsqueeze(-1)
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(taps).sum(0)
