"""What is known about one mask: is it a picture of the task, which Dice to expect, where the lesion ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Belonging", "Contours", "Cuts", "ExpectedDice", "Trust"]


@dataclass(frozen=True)
class Belonging:
    """How far a picture lies from those that a task was trained on.

    Attributes:
        score: distance, 0 in their middle.
        limit: that the stated share of the task's own pictures passes; above it the picture does not belong.
        false_alarms: that share, e.g. 0.05.
    """

    score: float
    limit: float
    false_alarms: float

    @property
    def refused(self) -> bool:
        """Whether the picture is none of the task."""
        return self.score > self.limit


@dataclass(frozen=True)
class ExpectedDice:
    """The Dice that a mask is expected to have, in [0, 1].

    Attributes:
        value: expected.
        low: end of its interval.
        high: other end.
        coverage: share of cases whose Dice lies within, e.g. 0.8.
    """

    value: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True)
class Cuts:
    """Thresholds of the contours of a task, and what they promise; see `monai_tpseg.trust.contours`.

    Attributes:
        inner_threshold, outer_threshold: that the contours are cut at.
        miss: share of the lesion's pixels outside of the outer one, at most, in expectation.
        false: share of the inner one's pixels that are no lesion, at most, in expectation.
        cases: that the thresholds of the task were found on.
    """

    inner_threshold: float
    outer_threshold: float
    miss: float
    false: float
    cases: int

    def record(self, inner_voxels: int, outer_voxels: int) -> dict[str, Any]:
        """Return what `result.json` says.

        Args:
            inner_voxels, outer_voxels: pixels or voxels of the contours.
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
    """Masks around and within the best one that hold a promise.

    Attributes:
        inner, outer: (1, H, W) or (1, H, W, D) in {0, 1}.
        cuts: where they were cut.
    """

    inner: torch.Tensor
    outer: torch.Tensor
    cuts: Cuts

    def record(self) -> dict[str, Any]:
        """Return what `result.json` says."""
        return self.cuts.record(int(self.inner.sum()), int(self.outer.sum()))


@dataclass(frozen=True)
class Trust:
    """All that is known about one mask; None is what the weights have nothing for.

    Attributes:
        belonging: to the task.
        dice: expected.
        contours: where they were asked for.
    """

    belonging: Belonging | None = None
    dice: ExpectedDice | None = None
    contours: Contours | None = None

    @property
    def refused(self) -> bool:
        """Whether the picture is none of the task; False where nothing is known."""
        return self.belonging is not None and self.belonging.refused

    @property
    def caption(self) -> str:
        """What stands above the overlay."""
        said = ["unlike the task's pictures"] * self.refused
        if self.dice is not None:
            said.append(f"expected Dice {self.dice.value:.2f} ({self.dice.low:.2f} to {self.dice.high:.2f})")
        return ", ".join(said)

    def record(self) -> dict[str, Any]:
        """Return what `result.json` says under `trust`; null is what nothing is known about."""
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
