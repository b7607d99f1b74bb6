"""The region of an ultrasound screen that shows the patient: cropping for the network, pasting for its mask."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_tpseg.io import meta_keys
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name
from monai_tpseg.keys import IMAGE, PRED

__all__ = ["CropToRegiond", "PasteRegiond", "crop_to_region", "paste_region"]


def crop_to_region(values: MetaTensor, meta: Mapping[str, Any]) -> MetaTensor:
    """Return the region of an image or its label, or all of it if the source declares none.

    The metadata remain those of the whole frame; `region` gives the position of the crop.

    Args:
        values: (C, H, W) or (C, H, W, D) on the whole frame; cropped values are returned unchanged.
        meta: the meta of the image from `LoadMedicalImage`.

    Raises:
        ValueError: a size other than the frame's or the region's.
    """
    bounds = _bounds(values, meta)
    if bounds is None:
        return values
    top, left, bottom, right = bounds
    part: MetaTensor = values[:, top:bottom, left:right]
    return part


def paste_region(values: torch.Tensor, meta: Mapping[str, Any]) -> torch.Tensor:
    """Return a result on the region pasted into the whole frame, zeros elsewhere.

    Args:
        values: (C, h, w) or (C, h, w, D) on the region, or single slices of a volume; values on the whole frame are
            returned unchanged.
        meta: the meta of the image from `LoadMedicalImage`, cropped or not.

    Raises:
        ValueError: a size other than the region's or the frame's.
    """
    if meta_keys.REGION not in meta:
        return values
    frame = tuple(int(n) for n in meta[meta_keys.LOADED_SHAPE])[:2]
    if tuple(values.shape[1:3]) == frame:
        return values
    if _bounds(values, meta) is not None:
        raise ValueError(f"Values of size {tuple(values.shape[1:])} match neither the frame nor its region.")
    plain = values.as_tensor() if isinstance(values, MetaTensor) else values
    whole = plain.new_zeros((plain.shape[0], *frame, *plain.shape[3:]))
    top, left, bottom, right = (int(n) for n in meta[meta_keys.REGION])
    whole[:, top:bottom, left:right] = plain
    return whole


class CropToRegiond(MapTransform):
    """Crop images and labels to the ultrasound region that shows the patient, if the source declares one.

    Use it between `LoadMedicalImaged` and the modality pipeline, so that text and rulers around the region do not count
    as tissue. `PasteRegiond` undoes it for predictions.

    Args:
        keys: keys of images and labels.
        image_key: key of the image whose meta names the region.
        allow_missing_keys: skip keys that a case does not have.

    Raises:
        ReadError: `E_SHAPE_MISMATCH`, a label has lesion pixels outside the region.
        ValueError: see `crop_to_region`.
    """

    def __init__(self, keys: KeysCollection = IMAGE, image_key: str = IMAGE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with its images and labels cropped."""
        case, meta = dict(data), data[self.image_key].meta
        for key in self.key_iterator(case):
            case[key] = crop_to_region(data[key], meta)
            if key != self.image_key and torch.count_nonzero(case[key]) < torch.count_nonzero(data[key]):
                name = base_name(Path(str(data[key].meta[meta_keys.FILENAME])))
                raise ReadError(
                    "E_SHAPE_MISMATCH",
                    f"Label {name} has lesion pixels outside the ultrasound region of its image; correct one of them.",
                )
        return case


class PasteRegiond(MapTransform):
    """Paste predictions of a cropped image back into the whole frame, zeros elsewhere.

    Args:
        keys: keys of predictions (C, h, w) or (C, h, w, D).
        image_key: key of the image, whose meta names region and frame.
        allow_missing_keys: skip keys that a case does not have.

    Raises:
        ValueError: see `paste_region`.
    """

    def __init__(self, keys: KeysCollection = PRED, image_key: str = IMAGE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with its predictions on the whole frame."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = paste_region(case[key], data[self.image_key].meta)
        return case


def _bounds(values: torch.Tensor, meta: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """Crop bounds of `values`, or None if there is nothing to crop."""
    if meta_keys.REGION not in meta:
        return None
    top, left, bottom, right = (int(n) for n in np.asarray(meta[meta_keys.REGION]))
    size, frame = tuple(values.shape[1:3]), tuple(int(n) for n in meta[meta_keys.LOADED_SHAPE])[:2]
    if size == (bottom - top, right - left):
        return None
    if size != frame:
        raise ValueError(f"Size {size} is neither that of the frame {frame} nor of its region; crop before resizing.")
    return top, left, bottom, right
