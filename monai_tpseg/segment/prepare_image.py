"""From an image as read to the input of a network."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import Modality
from monai_tpseg.transforms import NormalizeByModalityd
from monai_tpseg.transforms.regions import crop_to_region

__all__ = ["PrepareImage"]


class PrepareImage:
    """Crop to the region that shows the patient, and normalise it by modality; the pipelines are read once.

    In a chain of MONAI transforms `CropToRegiond` and `NormalizeByModalityd` do the same.

    Raises:
        ValueError: a pipeline is missing or malformed.
    """

    def __init__(self) -> None:
        self._normalise = NormalizeByModalityd()

    def __call__(self, image: MetaTensor, modality: Modality) -> torch.Tensor:
        """Return the input (3, h, w) or (3, h, w, D), float32.

        Args:
            image: (3, H, W) or (3, H, W, D) from `LoadMedicalImage`.
            modality: modality whose pipeline is applied.
        """
        plain: torch.Tensor = self._normalise.normalised(crop_to_region(image, image.meta), modality).as_tensor()
        return plain
