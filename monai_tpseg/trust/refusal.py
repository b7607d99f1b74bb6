"""Detection of pictures outside the task: far from its training pictures, or closer to pictures of other tasks.

Two scores of the pooled features of `monai_tpseg.trust.observe`, on the principal axes of the variation
within tasks: the distance to the nearest training picture of the task (Sun et al., ICML 2022), and a linear
discriminant between the task's pictures and those of other tasks requested for it. Each is scaled so that the median of
the task's own pictures is 0 and their upper end 1; the larger score counts. Both are held out: the distance by leaving
each picture out, the discriminant by cross-fitting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE_ALARMS", "Refusal", "fit_refusal"]

FALSE_ALARMS = 0.05
"""Share of a task's own pictures that pass its limit."""

AXES = 128  # maximum number of principal axes
_PICTURES = 4  # minimum number of pictures of all tasks per axis: with fewer, new pictures seem too far
_FOLDS = 5  # folds of the discriminant
_RIDGE = 1.0  # share of the mean variance added to the covariance of the discriminant
_LEAST = 10  # minimum number of pictures of a task for a meaningful limit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Refusal:
    """Scores and limits that separate the pictures of a task from others.

    Attributes:
        centre: (F,) mean of the pooled features.
        axes: (F, K) projection to principal axes of unit variance.
        references: (M, K) training pictures on these axes.
        rows: (M,) rows of their tasks.
        directions: (T, K) directions of the discriminant; zeros without pictures of other tasks.
        scales: (T, 2, 2) median and upper end of the task's own pictures, for distance and discriminant.
        limits: (T,) limits of the larger score; NaN for a task with too few pictures.
        false_alarms: share of the task's own pictures above the limit.
    """

    centre: Floats
    axes: Floats
    references: Floats
    rows: Floats
    directions: Floats
    scales: Floats
    limits: Floats
    false_alarms: float = FALSE_ALARMS

    def knows(self, row: int) -> bool:
        """Whether a task has a limit."""
        return row < len(self.limits) and bool(np.isfinite(self.limits[row]))

    def limit(self, row: int) -> float:
        """Return the score above which a picture is outside the task."""
        return float(self.limits[row])

    def scores(self, pooled: Floats, row: int) -> Floats:
        """Return the scores of pictures requested for one task.

        Args:
            pooled: (N, F) from `Observed.of`.
            row: row of the task.

        Returns:
            (N,), 0 at the median of the task's own pictures, 1 at their upper end.
        """
        z = (pooled - self.centre) @ self.axes
        distance = _nearest(z, self.references[self.rows == row])
        return _larger(distance, z @ self.directions[row], self.scales[row])

    def with_limits(self, pooled: Floats, rows: NDArray[np.int64]) -> Refusal:
        """Return a copy with limits from pictures outside the training list.

        Training pictures, e.g. frames of one video or slices of one patient, lie closer to each other than to a new
        picture. A task with too few new pictures keeps its limit.

        Args:
            pooled: (N, F) of pictures requested for their own task.
            rows: (N,) rows of these tasks.
        """
        limits = self.limits.copy()
        for row in range(len(limits)):
            mine = pooled[rows == row]
            if self.knows(row) and len(mine) >= _LEAST:
                limits[row] = np.quantile(self.scores(mine, row), 1 - self.false_alarms, method="higher")
        return replace(self, limits=limits)

    def tensors(self) -> dict[str, Floats]:
        """Return the arrays from which `of_tensors` restores the refusal."""
        return {**vars(self), "false_alarms": np.array([self.false_alarms])}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Any]) -> Refusal:
        """Return the refusal with the arrays of `tensors`."""
        found = {name: np.asarray(tensors[name], np.float64) for name in cls.__dataclass_fields__}
        false_alarms = round(float(found.pop("false_alarms")[0]), 6)
        return cls(**found, false_alarms=false_alarms)


def fit_refusal(
    pooled: Floats, asked: NDArray[np.int64], own: NDArray[np.bool_], tasks: int, false_alarms: float = FALSE_ALARMS
) -> Refusal:
    """Fit limits for each task.

    Args:
        pooled: (N, F) from `Observed.of`.
        asked: (N,) row of the task requested for each picture.
        own: (N,) bool, whether the picture belongs to that task.
        tasks: number of tasks T.
        false_alarms: share of a task's own pictures that may exceed its limit, in (0, 1).
    """
    centre, axes = _principal(pooled[own], asked[own])
    z = (pooled - centre) @ axes
    directions, scales = np.zeros((tasks, axes.shape[1])), np.zeros((tasks, 2, 2))
    scales[..., 1] = 1
    limits = np.full(tasks, np.nan)
    for row in range(tasks):
        mine, others = z[own & (asked == row)], z[~own & (asked == row)]
        if len(mine) < _LEAST:
            continue
        directions[row], held_out = _discriminant(mine, others)
        distance = _nearest_other(mine)
        scales[row] = [_scale(score, false_alarms) for score in (distance, held_out)]
        larger = _larger(distance, held_out, scales[row])
        limits[row] = np.quantile(larger, 1 - false_alarms, method="higher")
    return Refusal(centre, axes, z[own], asked[own].astype(np.float64), directions, scales, limits, false_alarms)


def _scale(score: Floats, false_alarms: float) -> list[float]:
    """Return the median of a score, and its upper end, which is larger."""
    middle = float(np.median(score))
    return [middle, max(float(np.quantile(score, 1 - false_alarms / 2)), middle + 1e-6)]


def _principal(pooled: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the mean, and the projection to at most `AXES` principal axes of the variation within tasks, whitened."""
    residuals = np.concatenate([pooled[rows == row] - pooled[rows == row].mean(0) for row in np.unique(rows)])
    scale = np.maximum(residuals.std(0), 1e-6)
    _, spread, turned = np.linalg.svd(residuals / scale, full_matrices=False)
    count = min(AXES, len(pooled) // _PICTURES, int((spread > 1e-3 * spread[0]).sum()))
    deviation = spread[:count] / np.sqrt(len(pooled))
    return pooled.mean(0), turned[:count].T / scale[:, None] / deviation


def _discriminant(mine: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return the direction from a task's pictures to others, and the held-out scores of its own pictures."""
    if len(others) < _LEAST:
        return np.zeros(mine.shape[1]), np.zeros(len(mine))
    folds = np.arange(len(mine)) % _FOLDS
    held_out = np.zeros(len(mine))
    for fold in range(_FOLDS):
        held_out[folds == fold] = mine[folds == fold] @ _direction(mine[folds != fold], others)
    return _direction(mine, others), held_out


def _direction(mine: Floats, others: Floats) -> Floats:
    """Fisher's linear discriminant with a ridge."""
    within = np.cov(mine.T) + np.cov(others.T)
    within += _RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    found: Floats = np.linalg.solve(within, others.mean(0) - mine.mean(0))
    return found


def _nearest(z: Floats, references: Floats) -> Floats:
    found: Floats = np.sqrt(_squares(z, references).min(axis=1))
    return found


def _nearest_other(z: Floats) -> Floats:
    squares = _squares(z, z)
    np.fill_diagonal(squares, np.inf)
    found: Floats = np.sqrt(squares.min(axis=1))
    return found


def _squares(a: Floats, b: Floats) -> Floats:
    found: Floats = np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)
    return found


def _larger(distance: Floats, side: Floats, scale: Floats) -> Floats:
    (near, far), (mine, others) = scale
    found: Floats = np.maximum((distance - near) / (far - near), (side - mine) / (others - mine))
    return found
