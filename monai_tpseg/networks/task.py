"""The task of a call: given by row, validated, never guessed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks.arguments import KeepsArguments
from monai_tpseg.networks.layers import is_exported, is_recorded, plain_tensor, to_device

__all__ = ["TaskNetwork", "expand_task", "is_passed_to_windows", "refuse_names", "row_numbers"]


def refuse_names(task: Any, num_tasks: int | None = None) -> None:
    """Check that `task` is given as a number.

    Args:
        task: as passed to the call.
        num_tasks: T, for the message.

    Raises:
        ValueError: None, or a name or several.
    """
    known = "a row number" if num_tasks is None else f"in 0..{num_tasks - 1}"
    if task is None:
        raise ValueError(f"task must be {known}, got None: call net(image, task), or bind_task(net, task)(image).")
    if any(isinstance(one, str) for one in (task if isinstance(task, list | tuple) else [task])):
        raise ValueError(
            f"task must be {known}, got {task!r}: bind_task(net, name) takes a name, "
            "TaskToIndexd turns those of a batch into rows."
        )


def row_numbers(task: Any, num_tasks: int | None = None) -> Tensor:
    """Return `task` as a tensor of row numbers, of any shape, on its own device.

    Args:
        task: an int, a tensor of integers, or a list of ints.
        num_tasks: T, for the message.

    Raises:
        ValueError: no task, a name, or non-integer numbers.
    """
    refuse_names(task, num_tasks)
    try:
        rows = plain_tensor(task) if isinstance(task, Tensor) else torch.as_tensor(task, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"task must be a row number, got {task!r}.") from error
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
        raise ValueError(f"task must be an integer row number, got dtype {rows.dtype}.")
    return rows


def expand_task(task: Any, batch: int, num_tasks: int, device: torch.device) -> Tensor:
    """Return `task` as one row number per sample.

    Args:
        task: a row number for the whole batch (an int or a 0-d tensor), or (B,) integers, one per sample.
        batch: B.
        num_tasks: T; row numbers are in 0..T-1.
        device: device of the result.

    Returns:
        (B,) int64.

    Raises:
        ValueError: no task, a name, wrong shape, not an integer, or out of range (not looked at on an accelerator,
            which would have to be waited for, nor in code that is compiled); or one row per picture of a batch that
            MONAI's sliding windows were given, see `is_passed_to_windows`.
    """
    rows = row_numbers(task, num_tasks)
    if rows.ndim > 1 or (rows.ndim == 1 and rows.shape[0] not in (1, batch)):
        raise ValueError(f"task must be an int, a 0-d or a ({batch},) tensor, got shape {tuple(rows.shape)}.")
    if rows.device.type == "cpu" and not is_recorded() and bool(((rows < 0) | (rows >= num_tasks)).any()):
        raise ValueError(f"task must be in 0..{num_tasks - 1}, got {rows.tolist()}.")
    if rows.ndim == 1 and len(rows) > 1 and is_passed_to_windows(lambda one: _is_as_long(one, len(rows))):
        raise ValueError(
            f"A task for each of {len(rows)} pictures does not fit the windows that SlidingWindowInferer makes of "
            "them: bind_task(net, task) and one task per call, or TaskInferer(window='sliding')."
        )
    return to_device(rows.to(torch.long), device).reshape(-1).expand(batch)


def _is_as_long(value: Any, length: int) -> bool:
    return isinstance(value, Tensor | list | tuple) and len(value) == length


def is_passed_to_windows(matches: Callable[[Any], bool]) -> bool:
    """Whether MONAI's sliding windows run this call and pass on, uncut, an argument that `matches`.

    `monai.inferers.sliding_window_inference` cuts the images of a batch into windows, joins windows of different
    images, and passes all other arguments on unchanged, so that a row per image may be applied to windows of another
    image. Shapes cannot reveal this, since both lengths may agree, and MONAI does not inform the network. This function
    therefore searches the call stack for that function and inspects its arguments.
    """
    if is_recorded():
        return False
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "sliding_window_inference" and frame.f_globals["__name__"] == "monai.inferers.utils":
            given = (*frame.f_locals.get("args", ()), *frame.f_locals.get("kwargs", {}).values())
            return any(matches(one) for one in given)
        frame = frame.f_back  # type: ignore[assignment]
    return False


class TaskNetwork(KeepsArguments, nn.Module):
    """Base of networks with one row of parameters per task, called as `net(image, task)`.

    A call without a task raises: row 0 would be a guess. There are three exceptions: a network with one task, an
    exporter that records the network (and calls it with the image alone), and a network that a bundle built with
    `default_task` for MONAI tools that call `net(image)`. The last two warn.

    Attributes:
        num_tasks: T.
        default_task: row used by a call without a task, or None.
    """

    num_tasks: int
    default_task: int | None = None
    _task_names: tuple[str, ...] = ()
    _warned: bool = False

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks in row order, () if not given.

        A network with as many tasks as `monai_tpseg.catalogue` uses the catalogue's names unless given others.

        Raises:
            ValueError: the number of names differs from the number of rows.
        """
        return self._task_names or (TASK_NAMES if self.num_tasks == len(TASK_NAMES) else ())

    @task_names.setter
    def task_names(self, names: Sequence[str]) -> None:
        if names and len(names) != self.num_tasks:
            raise ValueError(f"A network of {self.num_tasks} tasks cannot have {len(names)} names.")
        self._task_names = tuple(names)

    def named_task(self, task: Any) -> Any:
        """Return `task`, or the default row if there is one.

        Raises:
            ValueError: no task and no default.
        """
        if task is not None or self.num_tasks == 1:
            return 0 if task is None else task
        if self.default_task is None and not is_exported():
            refuse_names(None, self.num_tasks)
        row = self.default_task or 0
        if not self._warned:
            self._warned = True
            why = "while the network is exported" if self.default_task is None else "the default of this bundle"
            name = f" ({self.task_names[row]})" if self.task_names else ""
            warnings.warn(f"No task was given: row {row}{name} is used, {why}.", stacklevel=3)
        return row
