"""The last step of a segmentation as a MONAI transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD
from monai_tpseg.keys import IMAGE, LESIONS, PRED, PROB, TASK, TRUST
from monai_tpseg.segment.finish import Finish
from monai_tpseg.segment.trust_inferer import TrustInferer

__all__ = ["FinishMaskd"]


class FinishMaskd(MapTransform):
    """Convert the output of an inferer to mask, probabilities and numbered lesions of the whole image; see `Finish`.

    Args:
        keys: key of the probabilities (1, h, w) or (1, h, w, D), replaced by the mask.
        threshold: smallest probability of a lesion pixel, in (0, 1).
        min_lesion_area: size of the smallest lesion that is kept, in pixels or voxels.
        image_key: key of the loaded image, whose metadata contain region and frame.
        prob_key: key of the probabilities in the result.
        lesions_key: key of the numbered lesions in the result, (1, H, W) or (1, H, W, D) int32 on the CPU.
        allow_missing_keys: skip a case without the key.
        trust_inferer: inferer that made the probabilities; its trust estimates are stored under `keys.TRUST`.

    Raises:
        ValueError: several keys, or an argument out of range.
    """

    def __init__(
        self,
        keys: KeysCollection = PRED,
        threshold: float = THRESHOLD,
        min_lesion_area: int = MIN_LESION_AREA,
        image_key: str = IMAGE,
        prob_key: str = PROB,
        lesions_key: str = LESIONS,
        allow_missing_keys: bool = False,
        trust_inferer: TrustInferer | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"Exactly one prediction can be finished, got the keys {', '.join(map(str, self.keys))}.")
        self.finish = Finish(threshold, min_lesion_area)
        self.image_key, self.prob_key, self.lesions_key = image_key, prob_key, lesions_key
        self.trust_inferer = trust_inferer

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with mask, probabilities and lesions."""
        case = dict(data)
        for key in self.key_iterator(case):
            finished = self.finish(case[key], case[self.image_key].meta)
            if self.trust_inferer is not None:
                case[TRUST] = self.trust_inferer.trust(int(case[TASK]), case[key], finished, self.finish.threshold)
            lesions = torch.from_numpy(finished.lesions)[None]
            case |= {key: finished.mask, self.prob_key: finished.prob, self.lesions_key: lesions}
        return case
