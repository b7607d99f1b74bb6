"""Task prototypes: their bank, its update, and the decoder's attention to them."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.layers import mlp, resize

__all__ = ["PrototypeAttention", "PrototypeBank", "draw_prototypes"]

BACKGROUND, FOREGROUND = 0, 1


def draw_prototypes(num_tasks: int, channels: int, embedding_dim: int = 64) -> Tensor:
    """Draw the initial prototypes by equation (5), a normalised MLP of a task embedding; both are then discarded.

    Returns:
        (T, 2, C) unit norm, index 0 background, 1 foreground.
    """
    with torch.no_grad():
        embedding = torch.randn(num_tasks, embedding_dim)
        drawn: Tensor = mlp(embedding_dim, 2 * channels, 2 * channels)(embedding)
        return F.normalize(drawn.view(num_tasks, 2, channels), dim=-1)


class PrototypeBank(nn.Module):
    """Foreground and background prototype of each task, moved by an explicit `update`, never by `forward` or `eval`.

    The update is equations (12) and (13), for the tasks in the batch and x in {foreground, background}:

        P_x <- normalise(m P_x + (1 - m) normalise(sum(f M_x) / sum(M_x)))

    Args:
        num_tasks: T.
        channels: C.
        momentum: m; 0.9 in the paper, 0.995 as released.
        released: the released form: features are normalised pixel by pixel, the mean is not normalised again,
            foreground is a label above 0.5 and background below 0.1 after bilinear resizing with aligned corners, and a
            region of 10 pixels or fewer is skipped. The paper's form weights each pixel by the fraction of it that the
            label covers.
    """

    prototypes: Tensor

    def __init__(self, num_tasks: int, channels: int, momentum: float = 0.9, released: bool = False) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"The prototype momentum must be in [0, 1), got {momentum}.")
        self.momentum, self.released = momentum, released
        self.register_buffer("prototypes", draw_prototypes(num_tasks, channels))

    def forward(self, task: Tensor) -> Tensor:
        """(B,) rows -> prototypes (B, 2, C), 0 background, 1 foreground."""
        return self.prototypes[task]

    @torch.no_grad()
    def update(self, features: Tensor, label: Tensor, task: Tensor, taken: Tensor | None = None) -> None:
        """Move the prototypes of the tasks in this batch towards the mean features under their labels.

        Under `torch.distributed` the sums and counts of all ranks are added first, so every rank gets the result of one
        process on the combined batch.

        Args:
            features: f~ of the decoder, (B, C, h, w).
            label: (B, 1, H, W) in {0, 1}.
            task: (B,) int64.
            taken: 0-d bool tensor; False moves nothing. The host does not read it.
        """
        sums, counts = self._class_sums(features.detach().float(), label.float(), task)
        if dist.is_available() and dist.is_initialized():
            joined = torch.cat([sums.flatten(), counts.flatten()])
            dist.all_reduce(joined)
            sums, counts = joined[: sums.numel()].view_as(sums), joined[sums.numel() :].view_as(counts)
        mean = sums / counts.clamp_min(1e-6).unsqueeze(-1)
        if not self.released:
            mean = F.normalize(mean, dim=-1)
        moved = F.normalize(self.momentum * self.prototypes + (1 - self.momentum) * mean, dim=-1)
        # a feature that overflowed (half precision) must not destroy what was learnt
        present = (counts > (10.0 if self.released else 0.0)) & moved.isfinite().all(-1)
        if taken is not None:
            present = present & taken
        self.prototypes.copy_(torch.where(present.unsqueeze(-1), moved, self.prototypes))

    @torch.no_grad()
    def class_means(self, features: Tensor, label: Tensor) -> Tensor:
        """Return the unit mean feature under each sample's background and lesion, as `update` takes it.

        Args:
            features: f~ of the decoder, (B, C, h, w).
            label: (B, 1, H, W) in {0, 1}.

        Returns:
            (B, 2, C), 0 background, 1 foreground; zeros for a region absent from the sample.
        """
        sums, counts = self._sample_sums(features.float(), label.float())
        present = counts > (10.0 if self.released else 0.0)
        return F.normalize(sums, dim=-1) * present.unsqueeze(-1)

    def _class_sums(self, features: Tensor, label: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """Return per task and class the sum of features (T, 2, C) and the weight (T, 2)."""
        per_sample, weights = self._sample_sums(features, label)
        rows = self.prototypes.shape[0]
        sums = per_sample.new_zeros(rows, *per_sample.shape[1:]).index_add_(0, task, per_sample)
        counts = weights.new_zeros(rows, 2).index_add_(0, task, weights)
        return sums, counts

    def _sample_sums(self, features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return per sample and class the sum of features (B, 2, C) and the weight (B, 2)."""
        size = features.shape[-2:]
        if self.released:
            features = F.normalize(features, dim=1)
            label = resize(label, size, align_corners=True)
            regions = torch.cat([label < 0.1, label > 0.5], dim=1).to(features.dtype)
        else:
            label = F.interpolate(label, size=size, mode="area")
            regions = torch.cat([1 - label, label], dim=1)  # (B, 2, h, w)
        regions = regions.flatten(2)
        return torch.bmm(regions, features.flatten(2).transpose(1, 2)), regions.sum(-1)


class PrototypeAttention(nn.Module):
    """Cross-attention of equation (6): few prototype queries over all pixels, as `nn.MultiheadAttention` computes it.

    There are two queries and thousands of pixels, so the key and value projections are folded onto the query side:
    q . (W_k x) = (W_k^T q) . x, and as attention sums to one, sum_n a_n (W_v x_n + b_v) = W_v (sum_n a_n x_n) + b_v.
    The key bias shifts all scores of a query alike and drops out of the softmax. Parameters keep the names and shapes
    of `nn.MultiheadAttention`.

    Args:
        channels: C, divisible by `num_heads`.
        num_heads: number of heads.
    """

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels do not divide into {num_heads} heads.")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, pixels: Tensor) -> Tensor:
        """(B, Q, C) queries over (B, C, N) pixels -> (B, Q, C)."""
        heads, width = self.num_heads, query.shape[-1] // self.num_heads
        batch, queries, channels = query.shape
        w_q, w_k, w_v = self.in_proj_weight.chunk(3)
        b_q, _, b_v = self.in_proj_bias.chunk(3)
        q = F.linear(query, w_q, b_q).view(batch, queries, heads, width)
        folded = torch.einsum("bqhd,hdc->bhqc", q, w_k.view(heads, width, channels))
        scores = torch.matmul(folded.flatten(1, 2), pixels) * width**-0.5  # (B, heads * Q, N)
        attention = scores.softmax(dim=-1)
        pooled = torch.matmul(attention, pixels.transpose(1, 2)).view(batch, heads, queries, channels)
        value = torch.einsum("bhqc,hdc->bqhd", pooled, w_v.view(heads, width, channels)).flatten(2)
        projected: Tensor = self.out_proj(value + b_v)
        return projected
