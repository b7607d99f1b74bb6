"""The trust estimates of masks, for all interfaces: created once per weights, computed while the network runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from monai_tpseg.files import file_sha256
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.trust.fitted_files import ContourFile, Fitted, contours_path, read_contours, read_fitted, trust_path
from monai_tpseg.trust.observe import Observed, observe
from monai_tpseg.trust.record import Contours, Cuts, Trust
from monai_tpseg.trust.tally import Tally

__all__ = ["Judge"]


class Judge:
    """Compute the trust estimates of masks; estimates that were not fitted for the weights are None.

    Args:
        tasks: names of the tasks in row order.
        fitted: refusal and expected Dice.
        contours: calibrated thresholds; None computes no contours.
        digests: SHA-256 of the files of these estimates, by name.
        observable: whether the features of the network can be observed; other runtimes do not expose them, so there
            is no refusal.
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        fitted: Fitted | None = None,
        contours: ContourFile | None = None,
        digests: Mapping[str, str] = MappingProxyType({}),
        observable: bool = True,
    ) -> None:
        self.tasks, self.digests, self._observable = list(tasks), dict(digests), observable
        self._fitted, self._contours = fitted, contours

    @classmethod
    def beside(
        cls,
        weights: str | os.PathLike[str],
        info: WeightsInfo,
        contours: bool = False,
        fitted: bool = True,
        observable: bool = True,
    ) -> Judge:
        """Return the judge for weights, with the estimates in the files beside them, if any.

        Args:
            weights: file of the weights.
            info: description of the weights.
            contours: whether to compute contours.
            fitted: False ignores existing estimates, e.g. before fitting new ones.
            observable: see `Judge`.

        Raises:
            CheckpointError: a file beside the weights is damaged or belongs to other weights; `contours` is set, but
                none were calibrated.
        """
        known = read_fitted(weights, info.sha256) if fitted else None
        calibrated = read_contours(weights, info.sha256) if contours else None
        if contours and calibrated is None:
            raise CheckpointError(
                f"No calibrated contours beside '{weights}': create them with tpseg calibrate --data datalist.json "
                "--checkpoint W --miss 0.1, on cases unseen in training."
            )
        paths = [trust_path(weights)] * (known is not None) + [contours_path(weights)] * contours
        digests = {path.name.split(".", 1)[1]: file_sha256(path) for path in paths}
        return cls(info.tasks, known, calibrated, digests, observable)

    @property
    def knows(self) -> bool:
        """Whether estimates were fitted that apply to every mask."""
        return self._fitted is not None

    @property
    def refuses(self) -> bool:
        """Whether pictures outside the task can be detected."""
        return self._observable and self._fitted is not None and self._fitted.refusal is not None

    def check_refuses(self, weights: str | os.PathLike[str]) -> None:
        """Check that pictures outside the task can be detected.

        Args:
            weights: weights of the judge, for the message.

        Raises:
            CheckpointError: no refusal was fitted for them.
        """
        if not self.refuses:
            raise CheckpointError(
                f"Nothing beside '{weights}' detects pictures that do not belong to a task: fit it with tpseg "
                "calibrate --fit trust, or do not set refuse (--refuse)."
            )

    def watch(self, network: nn.Module) -> AbstractContextManager[Observed | None]:
        """Observe a network while it segments one case; the result is passed to `judge`."""
        return observe(network) if self.refuses else nullcontext()

    def judge(self, seen: Observed | None, row: int, prob: torch.Tensor, threshold: float) -> Trust:
        """Return the trust estimates of a mask.

        Args:
            seen: result of `watch`.
            row: row of the task.
            prob: (1, H, W) or (1, H, W, D) probabilities in [0, 1] of the region seen by the network.
            threshold: threshold of the mask.
        """
        tally = self.tally(row, threshold)
        tally.add(None if seen is None else seen.of(row), _slices(prob[0].numpy()))
        return tally.trust()

    def tally(self, row: int, threshold: float) -> Tally:
        """Return an accumulator for the parts of a case that does not fit into memory, see `Tally`."""
        return Tally(self._fitted, row, threshold)

    def cuts(self, row: int, threshold: float) -> Cuts | None:
        """Return the thresholds of the contours; None if not requested or if the task was not calibrated.

        The outer contour contains the mask, the mask contains the inner one.

        Args:
            row: row of the task.
            threshold: threshold of the mask.
        """
        found = None if self._contours is None else self._contours.tasks.get(self.tasks[row])
        if self._contours is None or found is None:
            return None
        inner, outer = max(found.inner.value, threshold), min(found.outer.value, threshold)
        cases = min(found.inner.cases, found.outer.cases)
        return Cuts(inner, outer, self._contours.miss, self._contours.false, cases)

    def contours(self, row: int, prob: torch.Tensor, threshold: float) -> Contours | None:
        """Return the contours of a mask, or None, see `cuts`.

        Args:
            row: row of the task.
            prob: (1, H, W) or (1, H, W, D) probabilities in [0, 1] on the grid of the mask.
            threshold: threshold of the mask.
        """
        cuts = self.cuts(row, threshold)
        if cuts is None:
            return None
        inside, around = ((prob >= value).to(torch.float32) for value in (cuts.inner_threshold, cuts.outer_threshold))
        return Contours(inside, around, cuts)


def _slices(prob: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield (H, W) unchanged, (H, W, D) slice by slice."""
    yield from (prob[..., n] for n in range(prob.shape[2])) if prob.ndim == 3 else (prob,)
