"""Other networks under the same engine, data, loss and schedule."""

from __future__ import annotations

from torch import Tensor, nn

from monai_tpseg.networks.layers import plain_tensor

__all__ = ["TaskAgnostic"]


class TaskAgnostic(nn.Module):
    """Lets a network that knows no tasks stand where TP-Seg stands: one model for all tasks, without a task input.

    Args:
        net: maps (B, 3, H, W) to logits (B, 1, H, W), e.g. MONAI's `UNet(2, 3, 1, ...)`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, task: int | Tensor = 0, deep_supervision: bool = False) -> Tensor:
        """Return the logits (B, 1, H, W); `task` is not used, and there are no side outputs to ask for."""
        logits: Tensor = self.net(plain_tensor(image))
        return logits
