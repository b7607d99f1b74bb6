"""Conversion of a data-loader batch to network arguments."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch

from monai_tpseg.keys import CLICKS, EXEMPLAR_IMAGE, EXEMPLAR_LABEL, IMAGE, LABEL, TASK

__all__ = ["PreparePromptBatch", "PrepareTaskBatch"]


class PrepareTaskBatch(PrepareBatch):
    """Returns image, label and `{"task": rows}`; a batch without a task is an error, never task 0.

    Volumes (B, 3, H, W, D) stay in host memory: `TaskInferer` sends their slices to the device. Task rows stay there as
    well: networks send them on asynchronously, and the fast form reads them.

    Raises:
        ValueError: the batch has no task, or names not converted to rows by `TaskToIndexd`.
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
    """As `PrepareTaskBatch`, plus the exemplars and clicks of a prompt, if present in the batch.

    Args:
        task: use the class as a prompt; otherwise it only selects the preprocessing.
        label: also pass the label to the inferer, for simulated clicks.
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
