"""The masks of a simulated user: all of them for the metrics of clicks, the last one for everything else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform

from monai_tpseg.keys import PRED, ROUNDS

__all__ = ["SplitRoundsd"]


class SplitRoundsd(Transform):
    """Move the masks (1 + N, H, W) from `pred` to `rounds`, and leave the last one (1, H, W) in `pred`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, ROUNDS: data[PRED], PRED: data[PRED][-1:]}
