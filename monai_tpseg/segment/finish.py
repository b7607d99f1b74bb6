"""From the output of a network to the mask and the lesions of the whole image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD
from monai_tpseg.io.source_grid import is_irregular
from monai_tpseg.lesions import label_lesions
from monai_tpseg.transforms.regions import paste_region

__all__ = ["Finish", "Finished", "find_lesions"]


class Finished(NamedTuple):
    """Probabilities, mask and lesions of the whole image; see `Segmentation`."""

    prob: torch.Tensor
    mask: torch.Tensor
    lesions: NDArray[np.int32]


_LARGEST = 1.001  # a mean of probabilities in half precision may exceed 1 by a rounding


@dataclass(frozen=True)
class Finish:
    """Paste into the whole image, threshold, remove small lesions, and number the lesions.

    Attributes:
        threshold: smallest probability of a lesion pixel, in (0, 1).
        min_lesion_area: size of the smallest lesion that is kept, in pixels or voxels.

    Raises:
        ValueError: either value is out of range.
    """

    threshold: float = THRESHOLD
    min_lesion_area: int = MIN_LESION_AREA

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {self.threshold!r}.")
        if not isinstance(self.min_lesion_area, int) or self.min_lesion_area < 0:
            raise ValueError(f"min_lesion_area must be 0 or more pixels, got {self.min_lesion_area!r}.")

    def __call__(self, prob: torch.Tensor, meta: Mapping[str, Any]) -> Finished:
        """Return probabilities, mask and lesions of the whole image.

        Args:
            prob: (1, h, w) or (1, h, w, D) in [0, 1], of the network input or of the whole image.
            meta: metadata of the image from `LoadMedicalImage`.
        """
        prob, mask = self.cut(prob, meta)
        lesions = label_lesions(mask[0].detach().cpu().numpy(), self.min_lesion_area, not is_irregular(meta))
        if self.min_lesion_area:
            mask = torch.from_numpy(lesions > 0)[None].to(mask.device)
        return Finished(prob, _like(mask, prob), lesions)

    def cut(self, prob: torch.Tensor, meta: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and mask, bool, of the whole image or slice; lesions are neither removed nor numbered.

        Args:
            prob: (1, h, w) or (1, h, w, D) in [0, 1]; also one slice of a volume.
            meta: metadata of the image from `LoadMedicalImage`.
        """
        prob = paste_region(prob, meta)
        return prob, self.marked(prob)

    def marked(self, prob: torch.Tensor) -> torch.Tensor:
        """Return the pixels of `prob` that reach the threshold, bool.

        Raises:
            ValueError: not a probability, as logits or an image with NaN give it: its mask would mean nothing.
        """
        low, high = prob.aminmax() if prob.numel() else (torch.tensor(0.0), torch.tensor(0.0))
        if not (low >= 0 and high <= _LARGEST):
            raise ValueError(
                f"Probabilities must lie in [0, 1], got values from {low:g} to {high:g}: logits need a sigmoid first."
            )
        return prob >= self.threshold


def find_lesions(mask: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[np.int32]:
    """Number the lesions of a mask, e.g. one drawn by a person.

    Args:
        mask: (H, W) or (H, W, D) in {0, 1}, on the grid of the loaded image.
        meta: metadata of the image from `LoadMedicalImage`.

    Returns:
        see `label_lesions`.
    """
    return label_lesions(mask, across_slices=not is_irregular(meta))


def _like(mask: torch.Tensor, prob: torch.Tensor) -> torch.Tensor:
    """The mask as float32, with the metadata of the probabilities, if any."""
    plain = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    flat = plain.to(torch.float32)
    if not isinstance(prob, MetaTensor):
        return flat
    with_meta = MetaTensor(flat)
    with_meta.copy_meta_from(prob)
    found: torch.Tensor = with_meta
    return found
