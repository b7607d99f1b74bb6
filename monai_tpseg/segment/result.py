"""What is found in a case."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.trust.record import Trust

__all__ = ["Segmentation"]


class Segmentation(NamedTuple):
    """A case and what was found in it; whatever else is known about a result gets a field with a default here.

    Attributes:
        image: (3, H, W) or (3, H, W, D) as read, with the meta of `LoadMedicalImage`.
        prob: (1, H, W) or (1, H, W, D) float32 in [0, 1], on the CPU.
        mask: of the same shape, in {0, 1}, float32: the lesions that stay.
        lesions: (H, W) or (H, W, D), numbered from 1 by size, as `lesions.csv` and DICOM segmentations number them.
        trust: how far the mask can be trusted; empty where nothing was fitted for the weights.
    """

    image: MetaTensor
    prob: torch.Tensor
    mask: torch.Tensor
    lesions: NDArray[np.int32]
    trust: Trust = Trust()
