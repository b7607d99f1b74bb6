"""From a batch of the data loader to the arguments of the network."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch

from monai_tpseg.keys import CLICKS, EXEMPLAR_IMAGE, EXEMPLAR_LABEL, IMAGE, LABEL, TASK

__all__ = ["PreparePromptBatch", "PrepareTaskBatch"]


class PrepareTaskBatch(PrepareBatch):
    """Gives image, label and `{"task": rows}`; a batch without a task is an error, never task 0.

    Volumes (B, 3, H, W, D) stay where they are, in the host's memory: `TaskInferer` sends their slices to the device.
    So do the rows of the tasks: networks send them on without waiting, and the fast form reads them.

    Raises:
        ValueError: the batch has no task, or names that no `TaskToIndexd` has turned into rows.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
        """Return (image, label or None, (), {"task": (B,) int64}), image and label moved to `device`."""
        task = batchdata.get(TASK)
        if not isinstance(task, torch.Tensor):
            raise ValueError(
                f"The batch's task must be row numbers, which TaskToIndexd makes from names, got {task!r}."
            )
        volume = batchdata[IMAGE].ndim == 5
        target = batchdata[IMAGE].device if volume else device
        moved = {key: _to(batchdata.get(key), target, non_blocking, **kwargs) for key in (IMAGE, LABEL)}
        return moved[IMAGE], moved[LABEL], (), {TASK: task}


class PreparePromptBatch(PrepareTaskBatch):
    """As `PrepareTaskBatch`, with what else a prompt may hold: exemplars and clicks, where the batch has them.

    Args:
        task: give the class as a prompt; without it, it only says how pixels become input.
        label: also give the label to the inferer, for one that simulates clicks.
    """

    def __init__(self, task: bool = True, label: bool = False) -> None:
        self.task, self.label = task, label

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
        """Return (image, label or None, (), prompt): `task`, `exemplar_image`, `exemplar_label`, `clicks`, `label`."""
        image, label, args, extra = super().__call__(batchdata, device, non_blocking, **kwargs)
        for key in (EXEMPLAR_IMAGE, EXEMPLAR_LABEL, CLICKS):
            if key in batchdata:
                extra[key] = _to(batchdata[key], device, non_blocking, **kwargs)
        if not self.task:
            del extra[TASK]
        if self.label:
            extra[LABEL] = label
        return image, label, args, extra


def _to(value: Any, device: str | torch.device | None, non_blocking: bool, **kwargs: Any) -> Any:
    return None if value is None else value.to(device=device, non_blocking=non_blocking, **kwargs)
