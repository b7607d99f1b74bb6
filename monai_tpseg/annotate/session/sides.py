"""Orientation letters at the edges of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.object import read_dataset
from monai_tpseg.io.display import files_of

__all__ = ["PLANE_SIDES", "sides_of"]

PLANE_SIDES = {
    "axial": {"up": "A", "down": "P", "west": "R", "east": "L"},
    "coronal": {"up": "S", "down": "I", "west": "R", "east": "L"},
    "sagittal": {"up": "S", "down": "I", "west": "A", "east": "P"},
}
"""Plane -> the letter of each edge, as radiologists look at it; see docs/conventions.md."""

_AXES = (("R", "L"), ("A", "P"), ("I", "S"))  # DICOM's axes: start and end of each


def sides_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the letter of each edge, `up`, `down`, `west` and `east`; empty if the orientation is unknown.

    Args:
        meta: metadata of the image from `LoadMedicalImage`.
    """
    if meta_keys.PLANE in meta:
        return dict(PLANE_SIDES.get(str(meta[meta_keys.PLANE]), {}))
    if str(meta[meta_keys.FORMAT]) != "dicom":
        return {}
    directions = read_dataset(files_of(meta)[0], pixels=False).get(
        "ImageOrientationPatient"
    )  # a single slice is shown as stored
    return _letters([float(x) for x in directions]) if directions and len(directions) == 6 else {}


def _letters(directions: Sequence[float]) -> dict[str, str]:
    """Return the letters at the ends of rows (first three numbers) and columns (last three)."""
    across, down = np.asarray(directions).reshape(2, 3)
    west, east = _ends(across)
    up, bottom = _ends(down)
    return {"up": up, "down": bottom, "west": west, "east": east}


def _ends(direction: Any) -> tuple[str, str]:
    axis = int(np.argmax(np.abs(direction)))
    first, last = _AXES[axis]
    return (first, last) if direction[axis] > 0 else (last, first)
