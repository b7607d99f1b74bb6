"""Contours with a promise: thresholds whose mean error stays below a stated share (conformal risk control).

Angelopoulos et al., Conformal Risk Control, ICLR 2024 (arXiv 2208.02814). A loss in [0, 1] that never rises with the
threshold's caution, n cases exchangeable with those to come, and a share alpha: the boldest threshold with

    n / (n + 1) * mean loss + 1 / (n + 1) <= alpha

has an expected loss of at most alpha on the next case. The outer contour bounds the missed share of the lesion's
pixels, the inner one the false share of its own pixels. The latter may rise and fall with the threshold, so each case
counts with the largest value at this or any higher threshold, which keeps the promise and gives some of it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS", "Curves", "Threshold", "Thresholds", "controlled", "curves_of", "least_cases"]

STEPS = 1000
"""Thresholds that are tried: k / STEPS for k = 0 ... STEPS, and one above all probabilities."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """The errors of one case at every threshold k / STEPS, k = 0 ... STEPS + 1; at the last one the mask is empty.

    Attributes:
        missed: (STEPS + 2,) share of the lesion's pixels with a lower probability; None without a lesion.
        false: (STEPS + 2,) share of the pixels from that probability on that are no lesion, at this threshold or the
            worst one above it.
    """

    missed: Floats | None
    false: Floats


@dataclass(frozen=True)
class Threshold:
    """A threshold that holds its promise.

    Attributes:
        value: probability from which a pixel belongs to the contour, 0 (all pixels) to above 1 (none).
        cases: that it was found on.
        risk: mean loss on them.
    """

    value: float
    cases: int
    risk: float


@dataclass(frozen=True)
class Thresholds:
    """The two thresholds of a task.

    Attributes:
        outer: at most `miss` of the lesion's pixels lie outside.
        inner: at most `false` of its pixels are no lesion.
    """

    outer: Threshold
    inner: Threshold


def curves_of(prob: NDArray[Any], label: NDArray[Any]) -> Curves:
    """Return the errors of a case at every threshold.

    Args:
        prob: probabilities in [0, 1], of any shape.
        label: of the same shape, in {0, 1}.

    Raises:
        ValueError: the shapes differ.
    """
    if prob.shape != label.shape:
        raise ValueError(f"Probabilities {prob.shape} and label {label.shape} must have the same shape.")
    # a pixel of bin k is inside for thresholds 0 ... k / STEPS, compared in float32 as masks are
    levels = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
    bins = np.searchsorted(levels, np.asarray(prob, np.float32).ravel(), side="right") - 1
    lesion = np.asarray(label).ravel() > 0
    inside, outside = (np.bincount(bins[part], minlength=STEPS + 2) for part in (lesion, ~lesion))
    true, wrong = (count[::-1].cumsum()[::-1] for count in (inside, outside))  # pixels from each threshold on
    total = int(lesion.sum())
    false = wrong / np.maximum(true + wrong, 1)
    worst = np.maximum.accumulate(false[::-1])[::-1]
    return Curves(1 - true / total if total else None, worst)


def controlled(losses: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """Say at which thresholds the expected loss of the next case is at most `share`.

    Args:
        losses: (n, thresholds) in [0, 1].
        share: alpha, in (0, 1).

    Returns:
        (thresholds,)
    """
    cases = len(losses)
    total = losses.sum(axis=0) if cases else np.zeros(losses.shape[1])
    bounded: NDArray[np.bool_] = (total + 1) / (cases + 1) <= share + 1e-12
    return bounded


def least_cases(share: float) -> int:
    """Return how many cases any threshold needs: with fewer, only all pixels or none hold the promise."""
    return int(np.ceil(1 / share - 1 - 1e-9))


def thresholds_of(curves: list[Curves], miss: float, false: float) -> Thresholds:
    """Return the boldest thresholds that hold their promises.

    Args:
        curves: of cases of one task.
        miss: share of the lesion's pixels that the outer contour may miss, in expectation; in (0, 1).
        false: share of the inner contour's pixels that may be no lesion, in expectation; in (0, 1).
    """
    missed = np.array([one.missed for one in curves if one.missed is not None]).reshape(-1, STEPS + 2)
    wrong = np.array([one.false for one in curves]).reshape(-1, STEPS + 2)
    return Thresholds(
        _threshold(missed, int(np.flatnonzero(controlled(missed, miss)).max(initial=0))),
        _threshold(wrong, int(np.flatnonzero(controlled(wrong, false)).min(initial=STEPS + 1))),
    )


def _threshold(losses: Floats, k: int) -> Threshold:
    risk = float(losses[:, k].mean()) if len(losses) else float("nan")
    return Threshold(k / STEPS, len(losses), risk)
