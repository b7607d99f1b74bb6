"""Trust estimates of one mask: refusal, expected Dice, contours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Belonging", "Contours", "Cuts", "ExpectedDice", "Trust"]


@dataclass(frozen=True)
class Belonging:
    """Distance of a picture from the training pictures of a task.

    Attributes:
        score: distance, 0 at their median.
        limit: score above which the picture does not belong to the task.
        false_alarms: share of the task's own pictures above the limit, e.g. 0.05.
    """

    score: float
    limit: float
    false_alarms: float

    @property
    def refused(self) -> bool:
        """Whether the picture is outside the task."""
        return self.score > self.limit


@dataclass(frozen=True)
class ExpectedDice:
    """Expected Dice of a mask, in [0, 1].

    Attributes:
        value: expected Dice.
        low: lower end of its interval.
        high: upper end of its interval.
        coverage: share of cases whose Dice lies within the interval, e.g. 0.8.
    """

    value: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True)
class Cuts:
    """Thresholds of the contours of a task with their guarantees; see `monai_tpseg.trust.contours`.

    Attributes:
        inner_threshold, outer_threshold: probabilities from which a pixel belongs to the contour.
        miss: maximum expected share of the lesion's pixels outside the outer contour.
        false: maximum expected share of the inner contour's pixels that are not lesion.
        cases: number of calibration cases of the task.
    """

    inner_threshold: float
    outer_threshold: float
    miss: float
    false: float
    cases: int

    def record(self, inner_voxels: int, outer_voxels: int) -> dict[str, Any]:
        """Return the entry of `result.json`.

        Args:
            inner_voxels, outer_voxels: number of pixels or voxels of each contour.
        """
        return {
            "inner_threshold": round(self.inner_threshold, 6),
            "outer_threshold": round(self.outer_threshold, 6),
            "miss": self.miss,
            "false": self.false,
            "cases": self.cases,
            "inner_voxels": inner_voxels,
            "outer_voxels": outer_voxels,
        }


@dataclass(frozen=True)
class Contours:
    """Masks outside and inside the best one, with guarantees.

    Attributes:
        inner, outer: (1, H, W) or (1, H, W, D) in {0, 1}.
        cuts: their thresholds.
    """

    inner: torch.Tensor
    outer: torch.Tensor
    cuts: Cuts

    def record(self) -> dict[str, Any]:
        """Return the entry of `result.json`."""
        return self.cuts.record(int(self.inner.sum()), int(self.outer.sum()))


@dataclass(frozen=True)
class Trust:
    """All trust estimates of one mask; None for estimates without fitted data.

    Attributes:
        belonging: distance from the pictures of the task.
        dice: expected Dice.
        contours: contours, if requested.
    """

    belonging: Belonging | None = None
    dice: ExpectedDice | None = None
    contours: Contours | None = None

    @property
    def refused(self) -> bool:
        """Whether the picture is outside the task; False if this is not known."""
        return self.belonging is not None and self.belonging.refused

    @property
    def caption(self) -> str:
        """The caption of the overlay."""
        said = ["unlike the task's pictures"] * self.refused
        if self.dice is not None:
            said.append(f"expected Dice {self.dice.value:.2f} ({self.dice.low:.2f} to {self.dice.high:.2f})")
        return ", ".join(said)

    def record(self) -> dict[str, Any]:
        """Return the entry `trust` of `result.json`; null for estimates without fitted data."""
        belonging, dice = self.belonging, self.dice
        return {
            "not_this_task": None if belonging is None else {
                "score": round(belonging.score, 4),
                "limit": round(belonging.limit, 4),
                "false_alarms": belonging.false_alarms,
            },
            "expected_dice": None if dice is None else {
                "value": round(dice.value, 3),
                "low": round(dice.low, 3),
                "high": round(dice.high, 3),
                "coverage": dice.coverage,
            },
            "contours": None if self.contours is None else self.contours.record(),
        }  # fmt: skip
