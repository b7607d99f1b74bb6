"""One task of a network as an image-only network, for tools that call `net(image)`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from monai_tpseg.catalogue import match_task
from monai_tpseg.networks.task import row_numbers
from monai_tpseg.networks.tpseg import unwrap
from monai_tpseg.words import choose

__all__ = ["BoundTask", "bind_task"]


class BoundTask(nn.Module):
    """A network with its task fixed; see `bind_task`.

    Args:
        net: called with (image, task).
        row: of the task.
    """

    def __init__(self, net: nn.Module, row: int) -> None:
        super().__init__()
        self.net, self.row = net, row

    def forward(self, image: Tensor, task: Any = None) -> Tensor:
        """(B, 3, H, W), ImageNet-normalised -> logits (B, 1, H, W).

        Raises:
            ValueError: an argument beyond the image, such as the task passed by `TaskInferer`.
        """
        if task is not None:
            raise ValueError(f"This network is bound to the task of row {self.row}: pass only the image.")
        logits: Tensor = self.net(image, self.row)
        return logits


def bind_task(net: nn.Module, task: int | str | Tensor) -> BoundTask:
    """Return `net` bound to one task, callable as `net(image)` by any MONAI inferer, evaluator or exporter.

    The weights are shared with `net`, not copied.

    >>> import torch
    >>> from monai.inferers import SlidingWindowInferer
    >>> from monai_tpseg.networks import tpseg_hiera_demo
    >>> polyps = bind_task(tpseg_hiera_demo().eval(), "colon_polyp")
    >>> SlidingWindowInferer(roi_size=64)(torch.zeros(2, 3, 96, 128), polyps).shape
    torch.Size([2, 1, 96, 128])

    Args:
        net: any network of this package, or one wrapped by PyTorch (parallel, averaged, compiled).
        task: the name of a task (see `TaskNetwork.task_names`) or its row.

    Raises:
        ValueError: an unknown name or row, or several.
    """
    inner: Any = unwrap(net)
    if isinstance(inner, BoundTask):
        raise ValueError(
            f"The network is bound to the task of row {inner.row} already: bind its inner network, `net.net`."
        )
    names, number = getattr(inner, "task_names", ()), getattr(inner, "num_tasks", None)
    if isinstance(task, str):
        name = match_task(task, names)
        if name not in names:
            known = choose(task, names) if names else "this network has no names of tasks, give the row"
            raise ValueError(f"Unknown task {task!r}; {known}.")
        return BoundTask(net, names.index(name))
    rows = row_numbers(task, number)
    if rows.numel() != 1:
        raise ValueError(f"bind_task binds one task, got {rows.tolist()}; bind each, or use TaskInferer.")
    row = int(rows)
    if row < 0 or (number is not None and row >= number):
        raise ValueError(f"task must be in 0..{number - 1 if number else '...'}, got {row}.")
    return BoundTask(net, row)
