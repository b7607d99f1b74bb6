"""Soft mixtures of experts in fused form: the exact mixture of all experts at a fraction of the cost.

A mixture is `sum_m g_m(token) expert_m(token)` with `g = softmax(Linear(token))` over all experts. Since the
last layers of the experts are linear, M attentions with H heads equal one attention with M * H heads whose outputs are
scaled by the gate before one joint projection, and M two-layer perceptrons equal one with M times the width and a gated
hidden layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MixtureAttention", "MixtureFFN"]


class MixtureAttention(nn.Module):
    """Gated sum of M multi-head attentions between two sequences, efficient if one of them is short.

    If one side has few tokens, the projections of the other side are applied to these tokens instead:
    q . (W_k x) = (W_k^T q) . x, and likewise for values and queries, so that the long side is not projected. The
    cheaper form is selected by the lengths; all forms compute the same function. The key bias shifts all scores of a
    query equally and has no effect; it exists for compatibility with `nn.MultiheadAttention`.

    Args:
        channels: number of channels C, divisible by `num_heads`.
        num_experts: number of experts M.
        num_heads: number of heads H per expert.
    """

    def __init__(self, channels: int, num_experts: int = 5, num_heads: int = 8) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels do not divide into {num_heads} heads.")
        self.num_experts, self.num_heads = num_experts, num_heads
        self.gate = nn.Linear(channels, num_experts)
        self.in_weight = nn.Parameter(torch.empty(num_experts, 3 * channels, channels))  # rows: query, key, value
        self.in_bias = nn.Parameter(torch.zeros(num_experts, 3 * channels))
        self.out_weight = nn.Parameter(torch.empty(num_experts, channels, channels))
        self.out_bias = nn.Parameter(torch.zeros(num_experts, channels))
        for m in range(num_experts):
            nn.init.xavier_uniform_(self.in_weight[m])
            nn.init.xavier_uniform_(self.out_weight[m])

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_position: Tensor,
        memory_position: Tensor,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """Attend from `query` to `memory`.

        Args:
            query: (B, L, C); the gate uses it without position.
            memory: (B, S, C).
            query_position: (B or 1, L, C), added to the query.
            memory_position: (B or 1, S, C), added to the keys, not to the values.
            blocked: (B, L or 1, S) bool, True for pairs without attention; no row may be fully blocked.

        Returns:
            (B, L, C).
        """
        gate = self.gate(query).float().softmax(dim=-1).to(query.dtype)
        q, k = query + query_position, memory + memory_position
        few = min(q.shape[1], k.shape[1])
        if few * (self.num_heads - 1) >= q.shape[2]:
            return self._joint(q, k, memory, gate, blocked)
        if q.shape[1] <= k.shape[1]:
            return self._few_queries(q, k, memory, gate, blocked)
        return self._few_keys(q, k, memory, gate, blocked)

    def _weights(self, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return weights (M * H, d, C) and biases (M * H, d) of query, key and value."""
        heads = self.num_experts * self.num_heads
        weights = self.in_weight.to(dtype).chunk(3, dim=1)
        biases = self.in_bias.to(dtype).chunk(3, dim=1)
        channels = self.in_weight.shape[2]
        return tuple(w.reshape(heads, -1, channels) for w in weights), tuple(b.reshape(heads, -1) for b in biases)

    def _merge(self, values: Tensor, gate: Tensor) -> Tensor:
        """Scale the outputs of the heads (B, L, M * H, d) by the gate and project them jointly."""
        experts = values.reshape(*values.shape[:2], self.num_experts, -1)  # (B, L, M, C)
        gated = (experts * gate.unsqueeze(-1)).flatten(2)
        weight = self.out_weight.transpose(0, 1).flatten(1)  # (M, C, C) -> (C, M * C)
        return F.linear(gated, weight.to(gated.dtype)) + gate @ self.out_bias.to(gate.dtype)

    def _joint(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, blocked: Tensor | None) -> Tensor:
        """Compute one attention with M * H heads."""
        weights, biases = self._weights(q.dtype)
        parts = zip((q, k, v), weights, biases, strict=True)
        q, k, v = (_heads(x, w, b).transpose(1, 2) for x, w, b in parts)  # (B, heads, L or S, d)
        mask = None if blocked is None else ~blocked.unsqueeze(1)
        return self._merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2), gate)

    def _few_queries(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, blocked: Tensor | None) -> Tensor:
        """Compute the attention with all projections applied to the queries, for short L."""
        (w_q, w_k, w_v), (b_q, _, b_v) = self._weights(q.dtype)
        heads, width, channels = w_q.shape
        folded = torch.einsum("blhd,hdc->bhlc", _heads(q, w_q, b_q), w_k)  # (B, heads, L, C)
        scores = torch.matmul(folded.flatten(1, 2), k.transpose(1, 2)) * width**-0.5  # (B, heads * L, S)
        attention = _softmax(scores.view(q.shape[0], heads, -1, k.shape[1]), blocked)
        pooled = torch.matmul(attention.flatten(1, 2), v).view(q.shape[0], heads, -1, channels)
        return self._merge(torch.einsum("bhlc,hdc->blhd", pooled, w_v) + b_v, gate)

    def _few_keys(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, blocked: Tensor | None) -> Tensor:
        """Compute the attention with all projections applied to keys and values, for short S."""
        (w_q, w_k, w_v), (b_q, b_k, b_v) = self._weights(q.dtype)
        heads, width, channels = w_q.shape
        key, value = _heads(k, w_k, b_k), _heads(v, w_v, b_v)  # (B, S, heads, d)
        folded = torch.einsum("bshd,hdc->bhsc", key, w_q).flatten(1, 2)
        offset = torch.einsum("bshd,hd->bhs", key, b_q).flatten(1).unsqueeze(1)
        scores = (torch.matmul(q, folded.transpose(1, 2)) + offset) * width**-0.5  # (B, L, heads * S)
        mask = None if blocked is None else blocked.transpose(1, 2).unsqueeze(1)  # (B, 1, S, L or 1)
        scores = scores.transpose(1, 2).view(q.shape[0], heads, -1, q.shape[1])  # (B, heads, S, L)
        attention = _softmax(scores, mask, dim=2)
        w_o = self.out_weight.to(value.dtype).view(self.num_experts, channels, self.num_heads, width)
        w_o = w_o.transpose(1, 2).flatten(0, 1)  # (heads, C, d)
        shown = torch.einsum("bshd,hcd->bhsc", value, w_o).flatten(1, 2)
        gated = attention * gate.transpose(1, 2).repeat_interleave(self.num_heads, dim=1).unsqueeze(2)
        mixed = torch.matmul(gated.flatten(1, 2).transpose(1, 2), shown)
        return mixed + gate @ self.out_bias.to(gate.dtype)


def _heads(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project x (B, L, C) with weight (heads, d, C), bias (heads, d) to (B, L, heads, d)."""
    return F.linear(x, weight.flatten(0, 1), bias.flatten()).view(*x.shape[:2], *bias.shape)


def _softmax(scores: Tensor, blocked: Tensor | None, dim: int = -1) -> Tensor:
    """Return the softmax of (B, heads, ., .) in float32; `blocked` has no dimension of heads, or one of size 1."""
    if blocked is not None:
        blocked = blocked if blocked.ndim == 4 else blocked.unsqueeze(1)
        scores = scores.masked_fill(blocked, float("-inf"))
    return scores.float().softmax(dim=dim).to(scores.dtype)


class MixtureFFN(nn.Module):
    """Gated sum of M two-layer perceptrons with ReLU, computed as one.

    Args:
        channels: number of channels C.
        num_experts: number of experts M.
        hidden: hidden width of each expert, by default C.
    """

    def __init__(self, channels: int, num_experts: int = 5, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden or channels
        self.gate = nn.Linear(channels, num_experts)
        self.in_weight = nn.Parameter(torch.empty(num_experts, width, channels))
        self.in_bias = nn.Parameter(torch.zeros(num_experts, width))
        self.out_weight = nn.Parameter(torch.empty(num_experts, channels, width))
        self.out_bias = nn.Parameter(torch.zeros(num_experts, channels))
        for m in range(num_experts):
            nn.init.xavier_uniform_(self.in_weight[m])
            nn.init.xavier_uniform_(self.out_weight[m])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to the same shape."""
        gate = self.gate(x).float().softmax(dim=-1).to(x.dtype)
        hidden = F.relu(F.linear(x, self.in_weight.flatten(0, 1), self.in_bias.flatten()))
        gated = (hidden.view(*x.shape[:-1], *self.in_bias.shape) * gate.unsqueeze(-1)).flatten(-2)
        out: Tensor = F.linear(gated, self.out_weight.transpose(0, 1).flatten(1)) + gate @ self.out_bias.to(gate.dtype)
        return out
