"""The decoder for inference: the same function as `PrototypeGuidedDecoder`, channels last, per task precomputed."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.decoder import PGTD
from monai_tpseg.networks.kernels import depthwise_by_taps, in_parts, on_plain_cpu
from monai_tpseg.networks.layers import TaskHead, cast, resize
from monai_tpseg.networks.prototype import BACKGROUND, FOREGROUND, PrototypeAttention
from monai_tpseg.networks.stem import DetailBlock

__all__ = ["FastDetail", "FastHead", "FastLow", "FastPGTD"]


class FastHead(nn.Module):
    """`TaskHead` for one task per call.

    Args:
        head: copied.
    """

    def __init__(self, head: TaskHead) -> None:
        super().__init__()
        head = copy.deepcopy(head)
        self.depthwise, self.norm = head.depthwise, head.norm
        self.weight, self.bias = head.task_weight, head.task_bias

    def forward(self, x: Tensor, row: int) -> Tensor:
        """(B, C, h, w) -> float32 logits (B, 1, h, w)."""
        x = x.to(self.depthwise.weight.dtype)
        tokens = F.gelu(self.norm(self.depthwise(x))).permute(0, 2, 3, 1)
        # in float32: a prototype's vote may all but cancel what a rounded product says
        logits: Tensor = torch.matmul(tokens.float(), self.weight[row].float()) + self.bias[row]
        return logits.unsqueeze(1)


class FastLow(nn.Module):
    """What the finer map gives to equation (4): Proj of it, and its share of the 1x1 convolution that fuses both maps.

    The result does not depend on the task, so tasks that share the encoder's stage share it as well. In float32, like
    the rest of the block.

    Args:
        pgtd: copied.
    """

    def __init__(self, pgtd: PGTD) -> None:
        super().__init__()
        self.project = copy.deepcopy(pgtd.project_low).requires_grad_(False)
        self.fuse = _part_of(pgtd.fuse[0], slice(pgtd.project_high[0].out_channels, None))
        cast(self, torch.float32)

    def forward(self, low: Tensor) -> Tensor:
        """(B, C_low, h, w) -> float32 (B, C, h, w)."""
        result: Tensor = self.fuse(self.project(low.float()))
        return result


class FastDetail(nn.Module):
    """`DetailBlock` for one task per call, in float32 like the decoders before it.

    Args:
        block: copied.
    """

    def __init__(self, block: DetailBlock) -> None:
        super().__init__()
        block = copy.deepcopy(block).requires_grad_(False)
        self.look, self.reduce, self.fuse = block.look, block.reduce, block.fuse
        self.head = FastHead(block.head)
        cast(self, torch.float32)

    def forward(self, image: Tensor, features: Tensor, row: int) -> Tensor:
        """(B, 3, H, W), (B, C, H / 4, W / 4) -> float32 logits (B, 1, H / 2, W / 2)."""
        seen = self.look(image.to(dtype=torch.float32, memory_format=torch.channels_last))
        coarse = resize(self.reduce(features), seen.shape[-2:])
        logits: Tensor = self.head(self.fuse(torch.cat([seen, coarse], dim=1)), row)
        return logits


def _part_of(conv: nn.Module, inputs: slice) -> nn.Conv2d:
    """Return a 1x1 convolution without bias on some of the input channels of another."""
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.detach()[:, inputs].clone()
    part = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False, device=weight.device).requires_grad_(False)
    part.weight.copy_(weight)
    return part


class FastPGTD(nn.Module):
    """`PGTD` for one task per call, after `FastLow`; terms that depend only on the prototypes are computed once.

    The queries of the attention, folded onto its key projection, and the difference of the two prototypes are the
    columns of one matrix per task. All but the head is computed in float32, as in `PGTD`, whatever the network's
    precision: the vote of equation (11) amplifies the similarity 50 times, and every rounding of f~ with it.

    Args:
        pgtd: copied.
    """

    columns: Tensor

    def __init__(self, pgtd: PGTD) -> None:
        super().__init__()
        pgtd = copy.deepcopy(pgtd).requires_grad_(False)
        self.project_high = pgtd.project_high
        self.fuse, self.norm = _part_of(pgtd.fuse[0], slice(pgtd.project_high[0].out_channels)), pgtd.fuse[1]
        self.encode, self.descriptor, self.experts = pgtd.encode, pgtd.descriptor, pgtd.experts
        self.head = FastHead(pgtd.head)
        self.alpha, self.released = pgtd.alpha, pgtd.released
        self.strength = float(pgtd.reinforcement * pgtd.amplifier)
        self.temperature = max(float(pgtd.temperature), 1e-3)
        self.heads = pgtd.attention.num_heads
        self.value, self.output = _value_projections(pgtd.attention)
        self.register_buffer("columns", _columns(pgtd))  # (T, C, heads * 2 + 1)
        cast(self, torch.float32)

    def forward(self, low: Tensor, high: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """`low` of `FastLow` (B, C, h, w), (B, C_high, h', w') -> float32 logits (B, 1, h, w) and y (B, C, h, w)."""
        lows = in_parts(low, low[0].numel())
        if len(lows) == 1:
            return self._decode(low, high, row)
        highs = high.chunk(len(lows))
        logits, features = zip(*(self._decode(*part, row) for part in zip(lows, highs, strict=True)), strict=True)
        return torch.cat(logits), torch.cat(features)

    def _decode(self, low: Tensor, high: Tensor, row: int) -> tuple[Tensor, Tensor]:
        high = self.project_high.on_upsampled(high.float(), low.shape[-2:], self.released)
        fused = F.gelu(self.norm(self.fuse(high) + low))
        pixels = self.encode(fused).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C)
        products = torch.matmul(pixels, self.columns[row])
        length = torch.linalg.vector_norm(pixels, dim=-1).clamp_min(1e-12)
        similarity = (products[..., -1] / length).view(-1, 1, *fused.shape[-2:])
        mixed = self._kernels(pixels, products[..., :-1])
        features = _depthwise(fused * (1 + self.alpha * similarity.sigmoid()), mixed)
        return self.head(features, row) + self._vote(similarity), features

    def _kernels(self, pixels: Tensor, scores: Tensor) -> Tensor:
        """Equations (6), (7) and the mixing of (10): the one 3x3 kernel per sample and channel, (B, C, 3, 3)."""
        weights = scores.softmax(dim=1).transpose(1, 2)  # (B, heads * 2, N)
        batch, channels = pixels.shape[0], self.value.in_features
        pooled = torch.matmul(weights, pixels).view(batch, self.heads, 2, channels)
        value = torch.matmul(pooled, self.value.weight.view(self.heads, -1, channels).transpose(1, 2))
        background, foreground = self.output(value.transpose(1, 2).flatten(2) + self.value.bias).unbind(1)
        z = self.descriptor(torch.cat([foreground, background, foreground - background], dim=-1))
        kernels, mix = self.experts(z)
        return torch.einsum("bm,bmcij->bcij", mix, kernels)

    def _vote(self, similarity: Tensor) -> Tensor:
        if self.released:
            similarity = similarity / (similarity.abs().mean(dim=(1, 2, 3), keepdim=True) + 1e-6)
        return self.strength * torch.tanh(similarity / self.temperature)


def _value_projections(attention: PrototypeAttention) -> tuple[nn.Linear, nn.Linear]:
    """Return copies of the value and the output projection."""
    channels = attention.in_proj_weight.shape[1]
    value = nn.Linear(channels, channels, device=attention.in_proj_weight.device)
    with torch.no_grad():
        value.weight.copy_(attention.in_proj_weight[2 * channels :])
        value.bias.copy_(attention.in_proj_bias[2 * channels :])
    return value, copy.deepcopy(attention.out_proj)


@torch.no_grad()
def _columns(pgtd: PGTD) -> Tensor:
    """Return per task the scaled queries of each head and prototype, and P_fg - P_bg last: (T, C, heads * 2 + 1)."""
    prototypes, attention = pgtd.bank.prototypes.float(), pgtd.attention
    tasks, _, channels = prototypes.shape
    heads, width = attention.num_heads, channels // attention.num_heads
    w_q, w_k, _ = attention.in_proj_weight.float().chunk(3)
    query = F.linear(prototypes, w_q, attention.in_proj_bias.float()[:channels]).view(tasks, 2, heads, width)
    folded = torch.einsum("tqhd,hdc->thqc", query, w_k.view(heads, width, channels)) * width**-0.5
    difference = prototypes[:, FOREGROUND] - prototypes[:, BACKGROUND]
    return torch.cat([folded.flatten(1, 2), difference.unsqueeze(1)], dim=1).transpose(1, 2).contiguous()


def _depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise 3x3 convolution of x (B, C, h, w) with a kernel per sample (B, C, 3, 3), channels last."""
    if not on_plain_cpu(x):
        return depthwise_by_taps(x, kernel)
    channels = x.shape[1]
    parts = [
        F.conv2d(sample, weight.unsqueeze(1), padding=1, groups=channels)
        for sample, weight in zip(torch.split(x, 1), kernel, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def upsampled_sum(logits: list[Tensor], weights: Tensor, size: torch.Size, align_corners: bool) -> Tensor:
    """Return the sum of `logits` (B, 1, h, w) at `size`, each times its entry of `weights` while it is still small."""
    scaled = (resize(x * w, size, align_corners) for x, w in zip(logits, weights, strict=True))
    total = next(scaled)
    for x in scaled:
        total = total + x
    return total
