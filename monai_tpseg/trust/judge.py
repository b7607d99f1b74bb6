"""One judge for all fronts: made once for weights, it watches the network and says what is known about a mask."""

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
    """Says what is known about masks of some weights. Where nothing was fitted for them, it says so by None.

    Args:
        tasks: names in row order.
        fitted: refusal and expected Dice.
        contours: calibrated thresholds; None cuts no contours.
        digests: sha256 of the files that these come from, by name.
        watched: whether the network can be watched; where another program computes it, nothing tells which pictures
            are none of a task.
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        fitted: Fitted | None = None,
        contours: ContourFile | None = None,
        digests: Mapping[str, str] = MappingProxyType({}),
        watched: bool = True,
    ) -> None:
        self.tasks, self.digests, self._watched = list(tasks), dict(digests), watched
        self._fitted, self._contours = fitted, contours

    @classmethod
    def beside(
        cls,
        weights: str | os.PathLike[str],
        info: WeightsInfo,
        contours: bool = False,
        fitted: bool = True,
        watched: bool = True,
    ) -> Judge:
        """Return the judge of what was fitted for weights and lies beside them; one that knows nothing where none does.

        Args:
            weights: their file.
            info: their description.
            contours: whether masks get contours.
            fitted: False leaves out what was fitted, as before it is fitted again.
            watched: see `Judge`.

        Raises:
            CheckpointError: what lies beside the weights is damaged or made for others; contours are asked for, and
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
        return cls(info.tasks, known, calibrated, digests, watched)

    @property
    def knows(self) -> bool:
        """Whether anything was fitted that is said of every mask."""
        return self._fitted is not None

    @property
    def refuses(self) -> bool:
        """Whether a picture that is none of the task can be told."""
        return self._watched and self._fitted is not None and self._fitted.refusal is not None

    def check_refuses(self, weights: str | os.PathLike[str]) -> None:
        """Refuse to go on where pictures are to be told that nothing tells.

        Args:
            weights: as the judge was made for.

        Raises:
            CheckpointError: nothing was fitted.
        """
        if not self.refuses:
            raise CheckpointError(
                f"Nothing beside '{weights}' detects pictures that do not belong to a task: fit it with tpseg "
                "calibrate --fit trust, or do not set refuse (--refuse)."
            )

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
        tally = self.tally(row, threshold)
        tally.add(None if seen is None else seen.of(row), _slices(prob[0].numpy()))
        return tally.trust()

    def tally(self, row: int, threshold: float) -> Tally:
        """Return what adds up the parts of a case that does not fit into memory; see `Tally`."""
        return Tally(self._fitted, row, threshold)

    def cuts(self, row: int, threshold: float) -> Cuts | None:
        """Return where contours are cut; None where they are not asked for or the task was not calibrated.

        The outer contour holds at least the mask, the inner one at most.

        Args:
            row: of the task.
            threshold: that the mask is cut at.
        """
        found = None if self._contours is None else self._contours.tasks.get(self.tasks[row])
        if self._contours is None or found is None:
            return None
        inner, outer = max(found.inner.value, threshold), min(found.outer.value, threshold)
        cases = min(found.inner.cases, found.outer.cases)
        return Cuts(inner, outer, self._contours.miss, self._contours.false, cases)

    def contours(self, row: int, prob: torch.Tensor, threshold: float) -> Contours | None:
        """Return the contours of a mask; None where there are none, see `cuts`.

        Args:
            row: of the task.
            prob: (1, H, W) or (1, H, W, D) on the grid of the mask.
            threshold: that the mask is cut at.
        """
        cuts = self.cuts(row, threshold)
        if cuts is None:
            return None
        inside, around = ((prob >= value).to(torch.float32) for value in (cuts.inner_threshold, cuts.outer_threshold))
        return Contours(inside, around, cuts)


def _slices(prob: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """(H, W) as it is, (H, W, D) slice by slice."""
    yield from (prob[..., n] for n in range(prob.shape[2])) if prob.ndim == 3 else (prob,)
