"""The mixtures of K-Prism as plain loops over experts: the oracle of the tests and the slow side of the benchmark."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_tpseg.networks.kprism import MixtureAttention, MixtureFFN


class NaiveMixtureAttention(nn.Module):
    """M times `nn.MultiheadAttention`, each run whole, then the gated sum of their outputs."""

    def __init__(self, fused: MixtureAttention) -> None:
        super().__init__()
        channels = fused.out_weight.shape[1]
        self.gate = nn.Linear(channels, fused.num_experts)
        self.gate.load_state_dict(fused.gate.state_dict())
        self.num_heads = fused.num_heads
        self.experts = nn.ModuleList(
            nn.MultiheadAttention(channels, fused.num_heads, batch_first=True) for _ in range(fused.num_experts)
        )
        with torch.no_grad():
            for m, expert in enumerate(self.experts):
                expert.in_proj_weight.copy_(fused.in_weight[m])
                expert.in_proj_bias.copy_(fused.in_bias[m])
                expert.out_proj.weight.copy_(fused.out_weight[m])
                expert.out_proj.bias.copy_(fused.out_bias[m])

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        query_position: Tensor,
        memory_position: Tensor,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """As `MixtureAttention.forward`."""
        mask = blocked
        if blocked is not None:
            mask = blocked.expand(-1, query.shape[1], -1).repeat_interleave(self.num_heads, dim=0)
        q, k = query + query_position, memory + memory_position
        outputs = [expert(q, k, memory, attn_mask=mask, need_weights=False)[0] for expert in self.experts]
        weights = self.gate(query).softmax(dim=-1)
        return torch.stack([weights[..., m : m + 1] * y for m, y in enumerate(outputs)]).sum(0)


class NaiveMixtureFFN(nn.Module):
    """M perceptrons, each run whole, then the gated sum of their outputs."""

    def __init__(self, fused: MixtureFFN) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        """As `MixtureFFN.forward`."""
        f = self.fused
        weights = f.gate(x).softmax(dim=-1)
        total = torch.zeros_like(x)
        for m in range(len(f.in_weight)):
            hidden = torch.relu(x @ f.in_weight[m].T + f.in_bias[m])
            total = total + weights[..., m : m + 1] * (hidden @ f.out_weight[m].T + f.out_bias[m])
        return total
