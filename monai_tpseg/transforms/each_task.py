"""Per-task transforms on the predictions of a case with several tasks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.keys import LESIONS, PRED, PROB, TASK, TASK_NAME
from monai_tpseg.words import count

__all__ = ["ForEachTask"]


class ForEachTask(Compose):
    """Run transforms on a case once per task, with only that task's prediction.

    A case with one task passes unchanged. A case with several has rows (T,) under `keys.TASK` and a prediction (T, H,
    W) or (T, H, W, D); the transforms see it T times, each time with one row, its name, and its channel (1, ...).

    Args:
        transforms: take and return a case, as for `Compose`.
        task_names: the tasks of the network, in the order of its rows.
    """

    def __init__(
        self, transforms: Sequence[Callable[..., Any]] | None = None, task_names: Sequence[str] = TASK_NAMES
    ) -> None:
        super().__init__(transforms)
        self.task_names = tuple(task_names)

    def __call__(self, data: Mapping[Hashable, Any], *args: Any, **kwargs: Any) -> dict[Hashable, Any]:
        """Return `data` with transformed prediction, probabilities and lesions, channel by channel.

        Raises:
            ValueError: the number of channels of the prediction differs from the number of tasks.
        """
        rows = torch.as_tensor(data.get(TASK, 0))
        if rows.ndim == 0:
            return dict(super().__call__(data, *args, **kwargs))
        if len(data[PRED]) != len(rows):
            raise ValueError(
                f"A prediction of {count(len(data[PRED]), 'channel')} does not fit {count(len(rows), 'task')}."
            )
        made = []
        for channel, row in enumerate(rows.tolist()):
            one: dict[Hashable, Any] = {TASK: rows[channel], TASK_NAME: self.task_names[row]}
            one[PRED] = data[PRED][channel : channel + 1]
            made.append(super().__call__({**data, **one}, *args, **kwargs))
        joined: dict[Hashable, Any] = {
            key: torch.cat([case[key] for case in made]) for key in (PRED, PROB, LESIONS) if key in made[0]
        }
        return dict(data) | joined
