"""Trust estimates of a case that is processed in parts: slices of a volume, windows of a slide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from monai_tpseg.trust.features import map_features
from monai_tpseg.trust.fitted_files import Fitted
from monai_tpseg.trust.record import Belonging, ExpectedDice, Trust

__all__ = ["Tally"]

_PARTS = 0.25  # quantile of the scores of the parts: in any volume some slices show little of the task


class Tally:
    """Accumulate the parts of one case, keeping a few numbers per part.

    The score of a case is the lower quartile of the scores of its parts. Its expected Dice is the area-weighted mean
    over the parts with lesion; without any it is that of the part with the largest probability.

    Args:
        fitted: estimates fitted for the weights, or None.
        row: row of the task.
        threshold: threshold of the mask.
    """

    def __init__(self, fitted: Fitted | None, row: int, threshold: float) -> None:
        self._refusal, self._model = (None, None) if fitted is None else (fitted.refusal, fitted.dice)
        self._row, self._threshold = row, threshold
        self._scores: list[NDArray[np.float64]] = []
        self._found: list[tuple[float, ExpectedDice]] = []
        self._peak: tuple[float, ExpectedDice | None] = -1.0, None

    def add(self, vectors: Tensor | None, maps: Iterable[NDArray[Any]]) -> None:
        """Add parts.

        Args:
            vectors: (N, F) from `Observed`, or None if the network was not observed.
            maps: (h, w) probabilities in [0, 1] of each part.
        """
        if self._refusal is not None and vectors is not None and len(vectors) and self._refusal.knows(self._row):
            self._scores.append(self._refusal.scores(vectors.double().numpy(), self._row))
        if self._model is None:
            return
        for one in maps:
            area, peak = int((one >= self._threshold).sum()), float(one.max(initial=0.0))
            if area or (not self._found and peak > self._peak[0]):
                said = self._model.expect(map_features(one, self._threshold), self._row)
                self._found += [(float(area), said)] * bool(area)
                self._peak = peak, said

    def trust(self) -> Trust:
        """Return the estimates of the parts added so far."""
        return Trust(self._belonging(), self._dice())

    def _belonging(self) -> Belonging | None:
        if self._refusal is None or not self._scores:
            return None
        score = float(np.quantile(np.concatenate(self._scores), _PARTS))
        return Belonging(score, self._refusal.limit(self._row), self._refusal.false_alarms)

    def _dice(self) -> ExpectedDice | None:
        if not self._found:
            return self._peak[1]
        areas, said = zip(*self._found, strict=True)
        ends = [(one.value, one.low, one.high) for one in said]
        value, low, high = np.average(ends, axis=0, weights=areas).tolist()
        return ExpectedDice(value, low, high, said[0].coverage)
