"""The result of a segmentation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.trust.record import Trust

__all__ = ["Segmentation"]


class Segmentation(NamedTuple):
    """A case and its segmentation.

    Attributes:
        image: (3, H, W) or (3, H, W, D) as read, with the metadata of `LoadMedicalImage`.
        prob: (1, H, W) or (1, H, W, D) float32 in [0, 1], on the CPU.
        mask: of the same shape, in {0, 1}, float32: the lesions that are kept.
        lesions: (H, W) or (H, W, D), numbered from 1 by size, as in `lesions.csv` and DICOM segmentations.
        trust: trust estimates; empty if none were fitted for the weights.
    """

    image: MetaTensor
    prob: torch.Tensor
    mask: torch.Tensor
    lesions: NDArray[np.int32]
    trust: Trust = Trust()
