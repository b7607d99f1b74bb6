"""Conversion of a task name to its row in the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from monai_tpseg.catalogue import TASK_NAMES, resolve_task
from monai_tpseg.catalogue import task_names as checked_names
from monai_tpseg.keys import TASK, TASK_NAME

__all__ = ["TaskToIndexd"]


class TaskToIndexd(Transform):
    """Replace the task of a case by its row, and keep its name under `keys.TASK_NAME`.

    A case may list several tasks of one modality: the list is replaced by their rows, and the first name is kept for
    preprocessing. `ForEachTask` separates them again.

    Args:
        task_names: the tasks of the network, in the order of its rows.
        key: key of a task, given as a name or as a row, or a list of them.

    Raises:
        ValueError: a repeated name in `task_names`; a case without a task, or with an unknown one.
    """

    def __init__(self, task_names: Sequence[str] = TASK_NAMES, key: str = TASK) -> None:
        self.task_names = checked_names(task_names)
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with an int64 scalar tensor under the key, so that a batch holds (B,); (T,) for T tasks."""
        if data.get(self.key) is None:
            raise ValueError(f"The case has no {self.key!r}; choose one of {', '.join(self.task_names)}.")
        task = data[self.key]
        if isinstance(task, list | tuple):
            rows = [resolve_task(one, self.task_names) for one in task]
            return {**data, self.key: torch.tensor(rows, dtype=torch.int64), TASK_NAME: self.task_names[rows[0]]}
        row = resolve_task(int(task) if isinstance(task, torch.Tensor) else task, self.task_names)
        return {**data, self.key: torch.tensor(row, dtype=torch.int64), TASK_NAME: self.task_names[row]}
