"""Unused parameters of the released TP-Seg files."""

from __future__ import annotations

from torch import nn

from monai_tpseg.networks.layers import RFB, TaskHead, mlp

__all__ = ["ReleasedExtras"]


class _ScaleExtras(nn.Module):
    """The unused parts of one released PGTD: a router over one scale, its weight, and the MLP of equation (5)."""

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.scale_weight = nn.Linear(1, 1, bias=False)
        self.scale_router = mlp(embedding_dim, 2, 1)
        self.initializer = mlp(embedding_dim, 2 * channels, 2 * channels)


class ReleasedExtras(nn.Module):
    """Frozen, named parameters that make counts and files of the released layout agree; never called.

    440,034 of them are never used (second RFBs of stages 2 to 4, two side heads, scale routers and weights); the
    MLP of equation (5) (460,800) and the task embedding only served to draw the initial prototypes.

    Args:
        num_tasks: T.
        embedding_dim: of the task embedding.
    """

    def __init__(self, num_tasks: int, embedding_dim: int = 64) -> None:
        super().__init__()
        self.task_embedding = nn.Embedding(num_tasks, embedding_dim)
        self.rfbs = nn.ModuleList(RFB(channels, 32) for channels in (128, 256, 512))
        self.heads = nn.ModuleList(TaskHead(channels, num_tasks) for channels in (128, 256))
        self.scales = nn.ModuleList(_ScaleExtras(channels, embedding_dim) for channels in (128, 128, 256))
        self.requires_grad_(False)
