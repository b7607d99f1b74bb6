"""The picture of a result: the viewable part of a case, with the lesion drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.catalogue import Modality, Task
from monai_tpseg.io import meta_keys
from monai_tpseg.keys import IMAGE, TASK_NAME
from monai_tpseg.transforms.overlay import draw_overlay
from monai_tpseg.transforms.pipelines import NormalizeByModalityd

__all__ = ["draw_case"]

_COARSE = 24  # cells along the long side of a picture that may hold names: no letter is left


def draw_case(
    image: MetaTensor,
    mask: torch.Tensor,
    task: str,
    display: NormalizeByModalityd,
    lesions: NDArray[np.int32] | None = None,
    contours: Sequence[NDArray[Any]] = (),
    caption: str = "",
) -> Image.Image:
    """Return the lesion drawn on the picture, or on up to 12 slices.

    Scanners write names and dates into ultrasound pictures, outside the region declared by the object. DICOM ultrasound
    is therefore drawn within that region, or blurred beyond legibility if none is declared.

    Args:
        image: (3, H, W) or (3, H, W, D) as read, with metadata from `LoadMedicalImage`.
        mask: (H, W) or (H, W, D) in {0, 1}, on its grid.
        task: the name of a task known to `display`.
        display: the pipelines without the step into the network (`network=False`).
        lesions: of the mask, numbered by `label_lesions`; by default numbered here if needed.
        contours: the inner and the outer one, of the shape of `mask`.
        caption: text after the task's title.
    """
    known, shown = display.get_task(task), display({IMAGE: image, TASK_NAME: task})[IMAGE].as_tensor()
    title = f"{known.title}, {caption}" if caption else known.title
    if _may_hold_names(image, known):
        if meta_keys.REGION in image.meta:
            top, left, bottom, right = (int(n) for n in image.meta[meta_keys.REGION])
            shown, mask = shown[:, top:bottom, left:right], mask[top:bottom, left:right]
            lesions = None if lesions is None else lesions[top:bottom, left:right]
            contours = [one[top:bottom, left:right] for one in contours]
        else:
            shown, title = _blurred(shown), f"{title}, blurred: no region declared"
    spacing = image.meta.get(meta_keys.SPACING) if mask.ndim == 3 else None
    return draw_overlay(shown.numpy(), mask.numpy(), title, spacing, lesions, contours)


def _may_hold_names(image: MetaTensor, task: Task) -> bool:
    if str(image.meta[meta_keys.FORMAT]) != "dicom":
        return False
    recorded = str(image.meta.get(meta_keys.MODALITY))
    return any(one.has_screen_text and (one is task.modality or recorded in one.dicom) for one in Modality)


def _blurred(image: torch.Tensor) -> torch.Tensor:
    """Average (3, H, W[, D]) over large cells, with soft edges between them."""
    flat = image if image.ndim == 3 else image.movedim(-1, 1).flatten(0, 1)
    height, width = flat.shape[1:]
    rows, columns = (max(1, round(_COARSE * n / max(height, width))) for n in (height, width))
    soft = F.interpolate(F.adaptive_avg_pool2d(flat[None], (rows, columns)), size=(height, width), mode="bicubic")[0]
    return soft.reshape(image.shape) if image.ndim == 3 else soft.reshape(3, -1, height, width).movedim(1, -1)
