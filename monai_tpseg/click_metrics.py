"""How good a mask is after each click, and how many clicks a good one takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_tpseg.metrics import dice_per_image, foreground_iou_per_image

__all__ = ["ClickScores", "DiceAfterClicks", "Measure", "NumberOfClicks", "clicks_needed"]

Measure = Literal["dice", "iou"]


def clicks_needed(scores: Tensor, threshold: float) -> Tensor:
    """Return after how many clicks each case first reaches a score.

    Args:
        scores: (B, 1 + N) in [0, 1], before the first click and after each.
        threshold: score in (0, 1].

    Returns:
        (B,) int64 in 0..N; N where no mask is good enough, as the literature counts.
    """
    reached = scores >= threshold
    most = scores.shape[1] - 1
    return torch.where(reached.any(1), reached.long().argmax(1), most)


class ClickScores(CumulativeIterationMetric):
    """Dice or lesion IoU of every case after 0, 1, ... N clicks; the aggregate is the mean curve (1 + N,).

    Args:
        measure: "dice" or "iou".

    Raises:
        ValueError: another measure.
    """

    def __init__(self, measure: Measure = "dice") -> None:
        super().__init__()
        if measure not in ("dice", "iou"):
            raise ValueError(f"Unknown measure {measure!r}; choose one of dice, iou.")
        self.measure = measure

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Masks (B, 1 + N, H, W) and labels (B, 1, H, W), both in {0, 1} -> (B, 1 + N)."""
        if y is None or y_pred.ndim != 4 or y.shape != (y_pred.shape[0], 1, *y_pred.shape[2:]):
            shape = None if y is None else tuple(y.shape)
            raise ValueError(f"Masks (B, 1 + N, H, W) need labels (B, 1, H, W), got {tuple(y_pred.shape)} and {shape}.")
        score = dice_per_image if self.measure == "dice" else foreground_iou_per_image
        truth = y.expand_as(y_pred)
        return score(y_pred.flatten(0, 1), truth.flatten(0, 1)).view(y_pred.shape[:2])

    def scores(self) -> Tensor:
        """Return the scores of all cases of all ranks, (N, 1 + N) float64.

        Raises:
            ValueError: there was no case.
        """
        buffer = self.get_buffer()
        if not isinstance(buffer, Tensor):
            raise ValueError("No case was measured; call the metric before aggregate.")
        return buffer

    def aggregate(self) -> Tensor:
        """Return the mean over the cases, (1 + N,)."""
        return self.scores().mean(0)


class DiceAfterClicks(ClickScores):
    """Mean Dice after given numbers of clicks.

    Args:
        at: numbers of clicks, each at most N.
    """

    def __init__(self, at: Sequence[int] = (1, 3, 5, 10)) -> None:
        super().__init__("dice")
        self.at = tuple(at)

    def aggregate(self) -> Tensor:
        """Return the means, (len(at),)."""
        return super().aggregate()[list(self.at)]


class NumberOfClicks(ClickScores):
    """Mean number of clicks until a mask reaches a score: NoC85 and NoC90 with thresholds 0.85 and 0.9 of the IoU.

    Args:
        threshold: in (0, 1].
        measure: "iou", as in the literature on interactive segmentation, or "dice".

    Raises:
        ValueError: the threshold is out of range.
    """

    def __init__(self, threshold: float = 0.9, measure: Measure = "iou") -> None:
        super().__init__(measure)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}.")
        self.threshold = threshold

    def aggregate(self) -> Tensor:
        """Return the mean, a scalar."""
        return clicks_needed(self.scores(), self.threshold).double().mean()
