"""How well a mask fits, per task: Dice and three readings of the intersection over union.

Every measure comes from the four counts of a confusion matrix, taken at the size of the masks that are given: the
original resolution unless the postprocessing leaves the masks at the network's size.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from monai_tpseg.catalogue import TASK_NAMES, resolve_task, task_names

__all__ = [
    "LesionMetrics",
    "confusion",
    "dice",
    "dice_per_image",
    "foreground_iou",
    "foreground_iou_per_image",
    "gather",
    "mean_iou",
    "mean_iou_per_image",
]

logger = logging.getLogger(__name__)

MEASURES = ("dice", "iou_foreground", "iou_mean", "iou_dataset")
MEAN = "mean"


def confusion(pred: Tensor, label: Tensor) -> Tensor:
    """Return the confusion matrix of every image.

    Args:
        pred: (B, ...) mask in {0, 1}, of any type and any number of further dimensions.
        label: of the same shape, in {0, 1}.

    Returns:
        (B, 4) int64: true positive, false positive, false negative and true negative pixels.

    Raises:
        ValueError: the shapes differ, an image has no pixel, or a value is neither 0 nor 1.
    """
    if pred.shape != label.shape:
        raise ValueError(f"Prediction {tuple(pred.shape)} and label {tuple(label.shape)} must have the same shape.")
    if pred.ndim < 2 or 0 in pred.shape[1:]:
        raise ValueError(f"Masks must be (B, ...) with at least one pixel, got shape {tuple(pred.shape)}.")
    pred, label = _mask(pred, "Prediction"), _mask(label, "Label")
    quarters = [pred & label, pred & ~label, ~pred & label, ~pred & ~label]
    return torch.stack([quarter.flatten(1).sum(1) for quarter in quarters], dim=1)


def dice_per_image(pred: Tensor, label: Tensor) -> Tensor:
    """Return the Dice coefficient of every image, 1 where prediction and label are both empty.

    Args:
        pred: (B, ...) mask in {0, 1}.
        label: of the same shape, in {0, 1}.

    Returns:
        (B,) float64 in [0, 1].

    Raises:
        ValueError: the shapes differ or a value is neither 0 nor 1.
    """
    return dice(confusion(pred, label))


def dice(counts: Tensor) -> Tensor:
    """Return the Dice coefficient of confusion matrices (..., 4), 1 where both masks are empty: the one definition.

    Returns:
        (...) float64 in [0, 1].

    Raises:
        ValueError: `counts` are not numbers of pixels; a mask is measured by `dice_per_image`.
    """
    tp, fp, fn, _ = _counts(counts, "dice").unbind(-1)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def foreground_iou_per_image(pred: Tensor, label: Tensor) -> Tensor:
    """Return the lesion's intersection over union of every image, 1 where both masks are empty.

    Args, Returns, Raises: as `dice_per_image`.
    """
    return foreground_iou(confusion(pred, label))


def mean_iou_per_image(pred: Tensor, label: Tensor) -> Tensor:
    """Return the mean of background and lesion intersection over union of every image.

    A class that neither mask contains counts 1. Args, Returns, Raises: as `dice_per_image`.
    """
    return mean_iou(confusion(pred, label))


def foreground_iou(counts: Tensor) -> Tensor:
    """Return the lesion's intersection over union of confusion matrices (..., 4), 1 where both masks are empty.

    Raises:
        ValueError: `counts` are not numbers of pixels; a mask is measured by `foreground_iou_per_image`.
    """
    return _iou(_counts(counts, "foreground_iou"))[..., 1]


def mean_iou(counts: Tensor) -> Tensor:
    """Return the mean of background and lesion intersection over union; a class that does not occur counts 1.

    Args:
        counts: (..., 4) confusion matrices; their sum over a data set gives the data-set-level measure.

    Returns:
        (...) float64 in [0, 1].

    Raises:
        ValueError: `counts` are not numbers of pixels; a mask is measured by `mean_iou_per_image`.
    """
    return _iou(_counts(counts, "mean_iou")).mean(-1)


class LesionMetrics:
    """Collects the confusion matrix of every case and tells the measures per task.

    For a task: `n`, the number of cases; `dice`, `iou_foreground`, `iou_mean`, means over its cases; `iou_dataset`,
    the mean of both classes from the one confusion matrix of all its pixels. `mean` averages over the tasks present,
    each counting once, and its `n` is the number of all cases.
    With `torch.distributed`, the ranks' cases are joined, in rank order; a case that two ranks saw counts twice, so
    the sampler must not pad. All ranks must then call `aggregate` and `rows`.

    Args:
        task_names: names in row order.

    Raises:
        ValueError: the list is empty, a name stands twice, or a task is called `mean`.
    """

    def __init__(self, task_names: Sequence[str] = TASK_NAMES) -> None:
        self.task_names = _checked(task_names)
        self.reset()

    def __len__(self) -> int:
        """Return the number of cases this rank has added."""
        return len(self._cases)

    def reset(self) -> None:
        """Forget all cases."""
        self._cases: list[tuple[int, str]] = []
        self._counts: list[Tensor] = []

    def update(
        self,
        pred: Tensor | Sequence[Tensor],
        label: Tensor | Sequence[Tensor],
        task: Tensor | Sequence[int | str | Tensor],
        case: Sequence[str] | None = None,
    ) -> None:
        """Add a batch of cases.

        Args:
            pred: masks in {0, 1}: a (B, ...) tensor, or a list of B tensors of any sizes.
            label: masks in {0, 1}, each of the size of its prediction.
            task: B task rows or names.
            case: B names of the cases, default their number.

        Raises:
            ValueError: lengths or shapes differ, a mask is not binary, or a task is unknown.
        """
        names = [str(len(self) + i) for i in range(len(pred))] if case is None else case
        if not len(pred) == len(label) == len(task) == len(names):
            lengths = f"{len(pred)}, {len(label)}, {len(task)} and {len(names)}"
            raise ValueError(f"Predictions, labels, tasks and cases must have the same length, got {lengths}.")
        tasks = [resolve_task(_name_or_row(t), self.task_names) for t in task]
        counts = [confusion(p[None], q[None])[0] for p, q in zip(pred, label, strict=True)]
        self._counts += counts
        self._cases += zip(tasks, names, strict=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary per case: `case`, `task` (name), `dice`, `iou_foreground`, `iou_mean`, and counts.

        The counts are `tp`, `fp`, `fn`, `tn`, in pixels.
        """
        cases, counts = self._gather()
        iou = _iou(counts)
        measures = torch.stack([dice(counts), iou[:, 1], iou.mean(1)], dim=1).tolist()
        return [
            {"case": name, "task": self.task_names[task]}
            | dict(zip(MEASURES[:3], values, strict=True))
            | dict(zip(("tp", "fp", "fn", "tn"), pixels, strict=True))
            for (task, name), values, pixels in zip(cases, measures, counts.tolist(), strict=True)
        ]

    def aggregate(self) -> dict[str, dict[str, float]]:
        """Return the measures of each task that occurred, in row order, and their `mean`.

        Raises:
            ValueError: no case was added.
        """
        return self.summarise(self.rows())

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Return what `aggregate` does from `rows` at hand, without asking the other ranks again."""
        if not rows:
            raise ValueError("No case was measured; call update before aggregate.")
        summary: dict[str, dict[str, float]] = {}
        for name in self.task_names:
            own = [row for row in rows if row["task"] == name]
            if own:
                values = {key: sum(row[key] for row in own) / len(own) for key in MEASURES[:3]}
                counts = torch.tensor([[row[key] for key in ("tp", "fp", "fn", "tn")] for row in own])
                summary[name] = {"n": len(own), **values, "iou_dataset": float(mean_iou(counts.sum(0)))}
        means = {key: sum(values[key] for values in summary.values()) / len(summary) for key in MEASURES}
        return {**summary, MEAN: {"n": len(rows), **means}}

    def _gather(self) -> tuple[list[tuple[int, str]], Tensor]:
        # as lists, because a rank may have no case at all
        cases = gather(self._cases)
        counts = gather([row.tolist() for row in self._counts])
        return cases, torch.tensor(counts, dtype=torch.int64).reshape(-1, 4)


def gather(items: Sequence[Any]) -> list[Any]:
    """Return the items of all processes of `torch.distributed`, in rank order; all of them must call it."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return list(items)
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    checked = task_names(names)
    if MEAN in checked:
        raise ValueError(f"A task cannot be called {MEAN!r}: that is the mean over tasks; rename it.")
    return checked


def _name_or_row(task: Any) -> Any:
    return task.item() if isinstance(task, Tensor) and task.numel() == 1 else task


def _counts(counts: Tensor, measure: str) -> Tensor:
    """Return confusion matrices as int64, in which sums of counts do not overflow."""
    whole = not (counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool)
    if counts.shape[-1:] != (4,) or not whole or bool((counts < 0).any()):
        raise ValueError(
            f"{measure} takes confusion matrices (..., 4) of whole numbers of at least 0, got {counts.dtype} of shape "
            f"{tuple(counts.shape)}; for masks call {measure}_per_image(pred, label)."
        )
    return counts.long()


def _mask(mask: Tensor, what: str) -> Tensor:
    mask = mask.as_subclass(Tensor)
    binary = mask.bool()
    if not torch.equal(binary.to(mask.dtype), mask):
        low, high = float(mask.min()), float(mask.max())
        raise ValueError(f"{what} must be a mask of 0 and 1, got values from {low:g} to {high:g}; threshold it first.")
    return binary


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp(min=1).double(), 1.0)


def _iou(counts: Tensor) -> Tensor:
    """Return (..., 2): intersection over union of background and lesion."""
    tp, fp, fn, tn = counts.unbind(-1)
    return torch.stack([_ratio(tn, tn + fp + fn), _ratio(tp, tp + fp + fn)], dim=-1)
