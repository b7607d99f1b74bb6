"""One judge for all fronts: made once for weights, it watches the network and says what is known about a mask."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from monai_tpseg.files import file_sha256
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.weights import WeightsInfo
from monai_tpseg.trust.features import map_features
from monai_tpseg.trust.files import contours_path, read_contours, read_fitted, trust_path
from monai_tpseg.trust.observe import Observed, observe
from monai_tpseg.trust.record import Belonging, Contours, ExpectedDice, Trust

__all__ = ["Judge"]

_SLICES = 0.25  # quantile of the scores of a volume's slices: some slices of any volume show little of the task


class Judge:
    """Says what is known about masks of some weights. Where nothing was fitted for them, it says so by None.

    Args:
        weights: their file; what was fitted lies beside it.
        info: their description.
        contours: whether masks get contours.
        fitted: False leaves out what was fitted, as before it is fitted again.

    Raises:
        CheckpointError: what lies beside the weights is damaged or made for others; contours are asked for, and none
            were calibrated.
    """

    def __init__(
        self, weights: str | os.PathLike[str], info: WeightsInfo, contours: bool = False, fitted: bool = True
    ) -> None:
        self.tasks = list(info.tasks)
        self._fitted = read_fitted(weights, info.sha256) if fitted else None
        self._contours = read_contours(weights, info.sha256) if contours else None
        if contours and self._contours is None:
            raise CheckpointError(
                f"No calibrated contours beside '{weights}': make them with tpseg calibrate --data datalist.json "
                "--checkpoint W --miss 0.1, on cases that training did not see."
            )
        paths = [trust_path(weights)] * (self._fitted is not None) + [contours_path(weights)] * contours
        self.digests = {path.name.split(".", 1)[1]: file_sha256(path) for path in paths}

    @property
    def refuses(self) -> bool:
        """Whether a picture that is none of the task can be told."""
        return self._fitted is not None and self._fitted.refusal is not None

    def watch(self, network: nn.Module) -> AbstractContextManager[Observed | None]:
        """Watch a network while it segments one case; what is seen goes to `judge`."""
        return observe(network) if self.refuses else nullcontext()

    def judge(self, seen: Observed | None, row: int, prob: torch.Tensor, threshold: float) -> Trust:
        """Return what is known about a mask.

        Args:
            seen: of `watch`.
            row: of the task.
            prob: (1, H, W) or (1, H, W, D) of the part of the picture that the network saw.
            threshold: that the mask is cut at.
        """
        if self._fitted is None:
            return Trust()
        return Trust(self._belonging(seen, row), self._dice(row, prob[0].numpy(), threshold))

    def contours(self, row: int, prob: torch.Tensor, threshold: float) -> Contours | None:
        """Return the contours of a mask; None where they are not asked for or the task was not calibrated.

        They lie around each other: the outer one holds at least the mask, the inner one at most.

        Args:
            row: of the task.
            prob: (1, H, W) or (1, H, W, D) on the grid of the mask.
            threshold: that the mask is cut at.
        """
        name = self.tasks[row]
        if self._contours is None or name not in self._contours.tasks:
            return None
        found = self._contours.tasks[name]
        inner, outer = max(found.inner.value, threshold), min(found.outer.value, threshold)
        inside, around = (prob >= inner).to(torch.float32), (prob >= outer).to(torch.float32)
        cases = min(found.inner.cases, found.outer.cases)
        return Contours(inside, around, inner, outer, self._contours.miss, self._contours.false, cases)

    def _belonging(self, seen: Observed | None, row: int) -> Belonging | None:
        refusal = None if self._fitted is None else self._fitted.refusal
        vectors = None if seen is None else seen.of(row)
        if refusal is None or vectors is None or not len(vectors) or not refusal.knows(row):
            return None
        scores = refusal.scores(vectors.double().numpy(), row)
        return Belonging(float(np.quantile(scores, _SLICES)), refusal.limit(row), refusal.false_alarms)

    def _dice(self, row: int, prob: NDArray[Any], threshold: float) -> ExpectedDice | None:
        model = None if self._fitted is None else self._fitted.dice
        if model is None:
            return None
        slices = [prob] if prob.ndim == 2 else _slices(prob, threshold)
        found = [model.expect(map_features(one, threshold), row) for one in slices]
        areas = np.array([max(int((one >= threshold).sum()), 1) for one in slices], np.float64)
        value, low, high = np.average([(one.value, one.low, one.high) for one in found], axis=0, weights=areas).tolist()
        return ExpectedDice(value, low, high, found[0].coverage)


def _slices(prob: NDArray[Any], threshold: float) -> list[NDArray[Any]]:
    """The slices of (H, W, D) that hold lesion, or the one that comes nearest to it."""
    peaks = prob.max(axis=(0, 1))
    numbers = np.flatnonzero(peaks >= threshold)
    return [prob[..., n] for n in (numbers if len(numbers) else [int(peaks.argmax())])]
