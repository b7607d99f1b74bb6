"""Expected Dice of a mask: ridge regression on features of its probabilities, with the interval of the residuals.

Cross-fitting: the cases are divided into folds; each fold is predicted by a regression fitted to the others, and these
residuals give the interval. Ridge is sufficient: there are few features, each nearly monotone in Dice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.trust.record import ExpectedDice

__all__ = ["COVERAGE", "DiceModel", "fit_dice"]

COVERAGE = 0.8
"""Share of cases whose Dice lies within the interval."""

FOLDS = 5
_BINS = 6  # bins of predictions, each with its own quantiles of the residuals
_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # ridge penalties; the best one is chosen by cross-validation
_FAR = 4.0  # standard deviations at which a feature is clipped: the square of a larger one would dominate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DiceModel:
    """A fitted regression.

    Attributes:
        mean, scale: (D,) mean and scale of the features.
        weights: (K,) weights of the expanded features.
        tasks: (T,) offset per task.
        knots: (B,) predictions with a known interval, ascending.
        below, above: (B,) distances from the prediction to the ends of the interval.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    tasks: Floats
    knots: Floats
    below: Floats
    above: Floats

    def predict(self, features: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return the expected Dice of N cases, in [0, 1].

        Args:
            features: (N, D), see `monai_tpseg.trust.features`.
            rows: (N,) rows of the tasks.
        """
        z = _expanded(features, self.mean, self.scale)
        return np.clip(z @ self.weights + self.tasks[rows], 0, 1)

    def expect(self, features: Floats, row: int) -> ExpectedDice:
        """Return the expected Dice of one case with its interval, in [0, 1].

        Args:
            features: (D,), see `monai_tpseg.trust.features`.
            row: row of its task.
        """
        value = float(self.predict(features[None], np.array([row]))[0])
        low, high = (float(np.interp(value, self.knots, ends)) for ends in (self.below, self.above))
        return ExpectedDice(value, min(max(value + low, 0.0), value), max(min(value + high, 1.0), value), COVERAGE)

    def tensors(self) -> dict[str, Floats]:
        """Return the arrays from which `of_tensors` restores the model."""
        return dict(vars(self))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Any]) -> DiceModel:
        """Return the model with the arrays of `tensors`."""
        return cls(**{name: np.asarray(tensors[name], np.float64) for name in cls.__dataclass_fields__})


def fit_dice(
    features: Floats,
    rows: NDArray[np.int64],
    dice: Floats,
    tasks: int,
    seed: int = 0,
    cases: NDArray[np.int64] | None = None,
) -> DiceModel:
    """Fit the regression.

    Args:
        features: (N, D), see `monai_tpseg.trust.features`.
        rows: (N,) rows of the tasks.
        dice: (N,) measured Dice in [0, 1].
        tasks: number of tasks T.
        seed: seed of the folds.
        cases: (N,) case of each sample; samples of one case are held out together. By default all are different.

    Raises:
        ValueError: fewer than 4 cases per fold.
    """
    names, case = np.unique(np.arange(len(dice)) if cases is None else cases, return_inverse=True)
    if len(names) < 4 * FOLDS:
        raise ValueError(f"An expected Dice needs at least {4 * FOLDS} cases with labels, got {len(names)}.")
    folds = (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[case]
    tried = {penalty: _held_out(features, rows, dice, tasks, folds, penalty) for penalty in _PENALTIES}
    best = min(tried, key=lambda penalty: float(np.abs(tried[penalty] - dice).mean()))
    mean, scale, weights, offsets = _ridge(features, rows, dice, tasks, best)
    return DiceModel(mean, scale, weights, offsets, *_interval(tried[best], dice))


def _held_out(
    features: Floats, rows: NDArray[np.int64], dice: Floats, tasks: int, folds: NDArray[Any], penalty: float
) -> Floats:
    """Predict each case by a regression fitted to the other folds."""
    predicted = np.zeros(len(dice))
    for fold in range(FOLDS):
        out = folds == fold
        mean, scale, weights, offsets = _ridge(features[~out], rows[~out], dice[~out], tasks, penalty)
        predicted[out] = np.clip(_expanded(features[out], mean, scale) @ weights + offsets[rows[out]], 0, 1)
    return predicted


def _ridge(
    features: Floats, rows: NDArray[np.int64], dice: Floats, tasks: int, penalty: float
) -> tuple[Floats, Floats, Floats, Floats]:
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    z = _expanded(features, mean, scale)
    design = np.hstack([z, np.eye(tasks)[rows]])
    overall = dice.mean()
    gram = design.T @ design + penalty * np.eye(design.shape[1])
    solved = np.linalg.solve(gram, design.T @ (dice - overall))
    return mean, scale, solved[: z.shape[1]], solved[z.shape[1] :] + overall


def _expanded(features: Floats, mean: Floats, scale: Floats) -> Floats:
    z = np.clip((features - mean) / scale, -_FAR, _FAR)
    return np.hstack([z, z**2 - 1])


def _interval(predicted: Floats, dice: Floats) -> tuple[Floats, Floats, Floats]:
    """Return knots at the centres of bins of equal count, and the quantiles of the residuals in each bin."""
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    tail = (1 - COVERAGE) / 2
    residuals = [dice[part] - predicted[part] for part in parts]
    knots = np.array([np.median(predicted[part]) for part in parts])
    below = np.array([np.quantile(r, tail, method="lower") for r in residuals])
    above = np.array([np.quantile(r, 1 - tail, method="higher") for r in residuals])
    return knots, below, above
