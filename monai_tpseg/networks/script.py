"""Networks that `torch.jit.script` cannot compile from source: traced instead, for any size, batch and task."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TRACED", "TracedForScript"]

TRACED = (2, 3, 64, 64)
"""Size of the traced image: every window of the trunk needs padding here, so that the padding is part of the trace."""


class TracedForScript(nn.Module):
    """Mixin: `torch.jit.script(net)`, and so MONAI's `ckpt_export`, records a call of (image, task) instead."""

    def __prepare_scriptable__(self) -> Any:
        """Return the trace of this network in evaluation mode; torch calls this."""
        device = next(self.parameters()).device
        image, task = torch.zeros(TRACED, device=device), torch.zeros(TRACED[0], dtype=torch.long, device=device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every shape check
            return _Traced(torch.jit.trace(self.eval(), (image, task), check_trace=False))  # type: ignore[no-untyped-call]


class _Traced(nn.Module):
    """Makes a trace scriptable: the scripting compiler accepts a trace as a submodule, not at the top level."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, task: Tensor) -> Tensor:
        result: Tensor = self.net(image, task)
        return result
