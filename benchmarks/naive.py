"""The naive twin: TP-Seg computed one sample at a time, as its equations are written.

It holds the parts of a `TPSeg`, so it has the same parameters under the same names and loads the same files, but calls
none of their `forward` methods: only the blocks of the `sam2` trunk and plain layers of PyTorch. Adapters loop over
samples and permute to (B, C, h, w) for real 1x1 convolutions, maps are upsampled before they are projected, attention
projects every pixel, experts are unfolded and summed one by one, heads compute the maps of all tasks. This is how the
released code works. It is the reference that tests compare with and that benchmarks measure against.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks import TPSeg, TPSegOutput

__all__ = ["NaiveTPSeg"]


class NaiveTPSeg(nn.Module):
    """The function of a `TPSeg`, layout paper or released, sample by sample.

    Args:
        net: a copy of its parts is taken; `load_state_dict` takes the files of `net`.
    """

    def __init__(self, net: TPSeg) -> None:
        super().__init__()
        for name, part in copy.deepcopy(net).named_children():
            self.add_module(name, part)
        self.align_corners = net.align_corners
        self.train(net.training)

    def forward(self, image: Tensor, task: int | Tensor = 0, deep_supervision: bool = False) -> Any:
        """Arguments and result as those of `TPSeg.forward`."""
        rows = [int(t) for t in torch.as_tensor(task).reshape(-1).expand(image.shape[0])]
        stages = [naive_rfb(rfb, x) for rfb, x in zip(self.decoder.rfbs, self.encode(image, rows), strict=True)]
        logits, encoded, prototypes = [naive_head(self.decoder.side_head, stages[3], rows)], [], []
        high = stages[3]
        for i in (2, 1, 0):
            output, high, code = naive_pgtd(self.decoder.pgtds[i], stages[i], high, rows)
            logits.insert(0, output)
            encoded.insert(0, code)
            prototypes.insert(0, torch.stack([self.decoder.pgtds[i].bank.prototypes[t] for t in rows]))
        side = tuple(upsample(x, image.shape[-2:], self.align_corners) for x in logits)
        weights = [self.fusion.task_weight[t].softmax(0) for t in rows]
        fused = torch.stack([sum(w[i] * side[i][b] for i in range(4)) for b, w in enumerate(weights)])
        return TPSegOutput(fused, side, tuple(encoded), tuple(prototypes)) if deep_supervision else fused

    def encode(self, image: Tensor, rows: Sequence[int]) -> list[Tensor]:
        """Return the four stages of `image` (B, 3, H, W) for the tasks `rows`, finest first."""
        trunk = self.encoder.trunk
        h = trunk.patch_embed(image)
        h = h + trunk._get_pos_embed(h.shape[1:3])
        gates = None if self.encoder.gate is None else naive_gates(self.encoder.gate)
        features = []
        for i, block in enumerate(trunk.blocks):
            if self.encoder.adapters is not None:
                adapter = self.encoder.adapters[i]
                column = None if gates is None else gates[:, i]
                h = torch.stack([naive_adapter(adapter, h[b], t, column) for b, t in enumerate(rows)])
            h = block(h)
            if i in trunk.stage_ends:
                features.append(h.permute(0, 3, 1, 2))
        return features


def naive_gates(gate: nn.Module) -> Tensor:
    """Return w of every task and block, (T, n), in the words of `SplitGate`."""
    d = F.softplus(gate.task_split)
    z = (d.cumsum(1) - d.sum(1, keepdim=True) / 2) / gate.temperature
    w = (z >= 0).to(z.dtype) if gate.hard else z.sigmoid()
    return torch.cat([torch.zeros_like(w[:, :1]), w[:, 1:], torch.ones_like(w[:, :1])], dim=1)


def naive_adapter(adapter: nn.Module, h: Tensor, task: int, gates: Tensor | None) -> Tensor:
    """Equations (1) and (2) on one sample (h, w, C); a route whose weight is exactly zero is left out."""
    x = h.permute(2, 0, 1).unsqueeze(0)
    n = F.group_norm(x, 1, adapter.norm.weight, adapter.norm.bias, adapter.norm.eps)
    w = torch.tensor(1.0 if adapter.routes == "task" else 0.0) if gates is None else gates[task]
    if w != 1:
        x = x + (1 - w) * _bottleneck(n, adapter.shared_down, adapter.shared_up)
    if w != 0:
        scale = 1 if adapter.task_scale is None else adapter.task_scale[task]
        x = x + w * scale * _bottleneck(n, adapter.task_down[task], adapter.task_up[task])
    return x[0].permute(1, 2, 0)


def _bottleneck(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    return F.conv2d(F.gelu(F.conv2d(x, down[..., None, None])), up[..., None, None])


def naive_rfb(rfb: nn.Module, x: Tensor) -> Tensor:
    """A receptive-field block, branch by branch."""
    branches = []
    for branch in rfb.branches:
        y = x
        for unit in branch:
            y = _unit(unit, y)
        branches.append(y)
    return F.relu(_unit(rfb.merge, torch.cat(branches, dim=1)) + _unit(rfb.residual, x))


def _unit(unit: nn.Module, x: Tensor) -> Tensor:
    return F.relu(unit.norm(unit.conv(x)))


def naive_pgtd(pgtd: nn.Module, low: Tensor, high: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Equations (4) to (11); returns logits (B, 1, h, w), y and f~, both (B, C, h, w)."""
    high = upsample(high, low.shape[-2:], pgtd.released)
    high, low = (_sequence(part, x) for part, x in ((pgtd.project_high, high), (pgtd.project_low, low)))
    fused = _sequence(pgtd.fuse, torch.cat([high, low], dim=1))  # (4)
    encoded = _sequence(pgtd.encode, fused)
    outputs, features = [], []
    for b, task in enumerate(rows):
        logit, y = naive_guidance(pgtd, fused[b : b + 1], encoded[b : b + 1], task)
        outputs.append(logit)
        features.append(y)
    return torch.cat(outputs), torch.cat(features), encoded


def naive_guidance(pgtd: nn.Module, fused: Tensor, encoded: Tensor, task: int) -> tuple[Tensor, Tensor]:
    """Equations (6) to (11) on one sample, f and f~ (1, C, h, w)."""
    background, foreground = pgtd.bank.prototypes[task]
    pixels = encoded.flatten(2).permute(2, 0, 1)  # (N, 1, C)
    a_bg, a_fg = (_attend(pgtd.attention, p.view(1, 1, -1), pixels) for p in (background, foreground))  # (6)
    z = _sequence(pgtd.descriptor, torch.cat([a_fg, a_bg, a_fg - a_bg], dim=-1))  # (7)
    cosine = [F.cosine_similarity(encoded.float(), p.view(1, -1, 1, 1), dim=1) for p in (foreground, background)]
    similarity = (cosine[0] - cosine[1]).unsqueeze(1)
    enhanced = fused * (1 + pgtd.alpha * similarity.sigmoid())  # (8) (9)
    y = naive_experts(pgtd.experts, enhanced, z)  # (10)
    logit = naive_head(pgtd.head, y, [task])
    if pgtd.released:
        similarity = similarity / (similarity.abs().mean() + 1e-6)
    vote = torch.tanh(similarity / pgtd.temperature.clamp_min(1e-3))
    return logit + pgtd.reinforcement * pgtd.amplifier * vote, y  # (11)


def _attend(attention: nn.Module, query: Tensor, pixels: Tensor) -> Tensor:
    """Multi-head attention of PyTorch: query (1, 1, C), pixels (N, 1, C) -> (1, C)."""
    result, _ = F.multi_head_attention_forward(
        query,
        pixels,
        pixels,
        query.shape[-1],
        attention.num_heads,
        attention.in_proj_weight,
        attention.in_proj_bias,
        None,
        None,
        False,
        0.0,
        attention.out_proj.weight,
        attention.out_proj.bias,
        need_weights=False,
    )
    return result[0]


def naive_experts(experts: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """Equation (10) on one sample: every expert runs over the unfolded 3x3 neighbourhoods, then they are summed."""
    _, channels, height, width = x.shape
    patches = F.unfold(x, 3, padding=1).view(channels, 9, height * width)
    kernels = _sequence(experts.generator, z).view(experts.num_experts, channels, 9)
    if experts.blend is not None:
        identity = F.one_hot(torch.tensor(4, device=x.device), 9).to(kernels.dtype)
        kernels = kernels * experts.blend + identity * (1 - experts.blend)
    weights = experts.weights(z).softmax(-1)[0]
    results = [w * torch.einsum("ck,ckn->cn", kernel, patches) for w, kernel in zip(weights, kernels, strict=True)]
    return torch.stack(results).sum(0).view(1, channels, height, width)


def naive_head(head: nn.Module, x: Tensor, rows: Sequence[int]) -> Tensor:
    """Head of equation (11): a map for every task, of which each sample's is taken; (B, C, h, w) -> (B, 1, h, w)."""
    hidden = F.gelu(head.norm(head.depthwise(x)))
    maps = F.conv2d(hidden, head.task_weight[..., None, None], head.task_bias)
    return torch.stack([maps[b, task : task + 1] for b, task in enumerate(rows)])


def upsample(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Resize (B, C, h, w) bilinearly."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def _sequence(layers: nn.Module, x: Tensor) -> Tensor:
    """Run the layers of a `Sequential` (or one layer) without its own `forward`."""
    for layer in layers if isinstance(layers, nn.Sequential) else (layers,):
        x = layer(x)
    return x
