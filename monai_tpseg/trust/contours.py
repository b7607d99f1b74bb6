"""Contours with guaranteed error: thresholds whose mean error stays below a given share (conformal risk control).

Angelopoulos et al., Conformal Risk Control, ICLR 2024 (arXiv 2208.02814). Given a loss in [0, 1] that never rises
as the threshold becomes more cautious, n cases exchangeable with future ones, and a share alpha, the least cautious
threshold with

    n / (n + 1) * mean loss + 1 / (n + 1) <= alpha

has an expected loss of at most alpha on the next case. The outer contour bounds the missed share of the lesion's
pixels, the inner one the false share of its own pixels. The latter is not monotone in the threshold, so each
case counts with its largest value at this or any higher threshold, which keeps the guarantee but makes it conservative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS", "Curves", "Threshold", "Thresholds", "curves_of", "meets_guarantee", "minimum_cases"]

STEPS = 1000
"""Thresholds that are tried: k / STEPS for k = 0 ... STEPS, and one above all probabilities."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Errors of one case at all thresholds k / STEPS, k = 0 ... STEPS + 1; at the last one the mask is empty.

    Attributes:
        missed: (STEPS + 2,) share of the lesion's pixels with a lower probability; None without a lesion.
        false: (STEPS + 2,) largest share of false pixels in the mask at this or any higher threshold.
    """

    missed: Floats | None
    false: Floats


@dataclass(frozen=True)
class Threshold:
    """A threshold with its guarantee.

    Attributes:
        value: probability from which a pixel belongs to the contour, 0 (all pixels) to above 1 (none).
        cases: number of calibration cases.
        risk: mean loss on them, in [0, 1].
    """

    value: float
    cases: int
    risk: float


@dataclass(frozen=True)
class Thresholds:
    """The two thresholds of a task.

    Attributes:
        outer: threshold of the outer contour: at most a share `miss` of the lesion's pixels lies outside.
        inner: threshold of the inner contour: at most a share `false` of its pixels is not lesion.
    """

    outer: Threshold
    inner: Threshold


def curves_of(prob: NDArray[Any], label: NDArray[Any]) -> Curves:
    """Return the errors of a case at all thresholds.

    Args:
        prob: probabilities in [0, 1], any shape.
        label: label in {0, 1}, same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if prob.shape != label.shape:
        raise ValueError(f"Probabilities {prob.shape} and label {label.shape} must have the same shape.")
    # a pixel of bin k is inside at thresholds 0 ... k / STEPS, compared in float32 as for masks
    levels = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
    bins = np.searchsorted(levels, np.asarray(prob, np.float32).ravel(), side="right") - 1
    lesion = np.asarray(label).ravel() > 0
    inside, outside = (np.bincount(bins[part], minlength=STEPS + 2) for part in (lesion, ~lesion))
    true, wrong = (count[::-1].cumsum()[::-1] for count in (inside, outside))  # pixels at or above each threshold
    total = int(lesion.sum())
    false = wrong / np.maximum(true + wrong, 1)
    worst = np.maximum.accumulate(false[::-1])[::-1]
    return Curves(1 - true / total if total else None, worst)


def meets_guarantee(losses: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """Return the thresholds at which the expected loss of the next case is at most `share`.

    Args:
        losses: (n, thresholds) in [0, 1], one row per case.
        share: alpha, in (0, 1).

    Returns:
        (thresholds,) bool
    """
    cases = len(losses)
    total = losses.sum(axis=0) if cases else np.zeros(losses.shape[1])
    bounded: NDArray[np.bool_] = (total + 1) / (cases + 1) <= share + 1e-12
    return bounded


def minimum_cases(share: float) -> int:
    """Return the minimum number of cases: with fewer, only the full or the empty mask meets the guarantee."""
    return int(np.ceil(1 / share - 1 - 1e-9))


def thresholds_of(curves: list[Curves], miss: float, false: float) -> Thresholds:
    """Return the least cautious thresholds that meet their guarantees.

    Args:
        curves: errors of the cases of one task.
        miss: share of the lesion's pixels that the outer contour may miss, in expectation; in (0, 1).
        false: share of the inner contour's pixels that may be no lesion, in expectation; in (0, 1).
    """
    missed = np.array([one.missed for one in curves if one.missed is not None]).reshape(-1, STEPS + 2)
    wrong = np.array([one.false for one in curves]).reshape(-1, STEPS + 2)
    return Thresholds(
        _threshold(missed, int(np.flatnonzero(meets_guarantee(missed, miss)).max(initial=0))),
        _threshold(wrong, int(np.flatnonzero(meets_guarantee(wrong, false)).min(initial=STEPS + 1))),
    )


def _threshold(losses: Floats, k: int) -> Threshold:
    risk = float(losses[:, k].mean()) if len(losses) else float("nan")
    return Threshold(k / STEPS, len(losses), risk)
