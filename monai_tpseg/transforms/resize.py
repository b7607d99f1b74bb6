"""Resizing pictures of any size to the one size of a training batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from monai_tpseg.keys import IMAGE, LABEL

__all__ = ["ResizePictured"]


class ResizePictured(MapTransform):
    """Resize pictures (C, H, W) to one size, for batches; the aspect ratio is not kept, as in the paper.

    Images are resized bilinearly, with averaging when shrinking; a label pixel is set if at least half of its area was.
    Inference resizes in the same way inside `TaskInferer`, so that results are returned at the source's own size.

    Args:
        size: (H, W) in pixels, or one number for a square.
        keys: images to resize.
        label_keys: masks in {0, 1} to resize.

    Raises:
        ValueError: a volume; training on volumes uses their slices.
    """

    def __init__(
        self, size: int | Sequence[int], keys: KeysCollection = IMAGE, label_keys: KeysCollection = LABEL
    ) -> None:
        super().__init__(keys)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.labels = ensure_tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.keys:
            case[key] = self._resize(case[key])
        for key in self.labels:
            case[key] = (self._resize(case[key]) >= 0.5).to(torch.float32)
        return case

    def _resize(self, value: torch.Tensor) -> torch.Tensor:
        if value.ndim != 3:
            raise ValueError(f"ResizePictured takes pictures (C, H, W), got shape {tuple(value.shape)}.")
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value
        return F.interpolate(plain[None].float(), size=self.size, mode="bilinear", antialias=True)[0]
