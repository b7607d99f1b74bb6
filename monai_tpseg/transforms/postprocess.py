"""Postprocessing of masks before they are written."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from monai_tpseg.defaults import MIN_LESION_AREA
from monai_tpseg.keys import PRED
from monai_tpseg.lesions import label_lesions

__all__ = ["RemoveSmallLesionsd"]


class RemoveSmallLesionsd(MapTransform):
    """Remove connected lesions below a size.

    Args:
        keys: keys of masks, (1, H, W) or (1, H, W, D) in {0, 1}.
        min_area: the smallest size to keep: pixels of a picture, voxels of a volume (connected across slices), with
            diagonal connectivity. 0 keeps everything.
        allow_missing_keys: skip keys missing from a case.

    Raises:
        ValueError: `min_area` is negative.
    """

    def __init__(
        self, keys: KeysCollection = PRED, min_area: int = MIN_LESION_AREA, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if min_area < 0:
            raise ValueError(f"min_area must be 0 or more pixels, got {min_area}.")
        self.min_area = min_area

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with the small lesions set to 0."""
        case = dict(data)
        for key in self.key_iterator(case):
            if self.min_area:
                case[key] = self._clean(case[key])
        return case

    def _clean(self, mask: torch.Tensor) -> torch.Tensor:
        channel = mask[0].detach().cpu().numpy() > 0
        kept = label_lesions(channel, self.min_area)[None] > 0
        cleaned: torch.Tensor = convert_to_dst_type(kept.astype(np.float32), mask)[0]
        return cleaned
