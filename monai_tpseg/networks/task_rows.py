"""The rows of one task as separate parameters, so that nothing else in the network can change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from monai_tpseg.networks.tpseg import TPSeg

__all__ = ["NewRow"]

_TUNED = ("task_down", "task_up", "task_scale", "task_weight", "task_bias")  # a hard gate has no gradient


class NewRow(nn.Module):
    """A TP-Seg with one trainable task: adapters, heads and fusion of its row.

    The network, including its prototypes, is frozen and stays in evaluation mode. `write` stores the rows in it; other
    rows are never written, so the logits of the other tasks stay bit-identical.

    Args:
        net: TP-Seg.
        row: of the task.
    """

    def __init__(self, net: TPSeg, row: int) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.row = row
        self.names = [name for name, _ in _rows(net)]
        self.rows = nn.ParameterList(nn.Parameter(value[row].clone()) for _, value in _rows(net))

    def train(self, mode: bool = True) -> NewRow:
        """Switch mode; the network stays in evaluation mode."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, image: Tensor, task: int | Tensor, deep_supervision: bool = False) -> Any:
        """As `TPSeg.forward`, with this module's rows in place of the network's."""
        whole = dict(self.net.named_parameters())
        used = {name: self._joined(whole[name], row) for name, row in zip(self.names, self.rows, strict=True)}
        return functional_call(self.net, used, (image, task), {"deep_supervision": deep_supervision})

    @torch.no_grad()
    def write(self) -> None:
        """Write the rows into the network."""
        whole = dict(self.net.named_parameters())
        for name, row in zip(self.names, self.rows, strict=True):
            whole[name][self.row] = row

    def _joined(self, value: Tensor, row: Tensor) -> Tensor:
        return torch.cat([value[: self.row], row[None], value[self.row + 1 :]])


def _rows(net: TPSeg) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in net.named_parameters():
        if name.rpartition(".")[2] in _TUNED and not name.startswith("extras."):
            yield name, parameter
