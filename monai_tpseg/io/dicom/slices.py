"""Slices that do not form a regular grid: each keeps its position, nothing is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.attributes import directions, pixel_spacing, position, thickness
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.errors import ReadCode
from monai_tpseg.io.loaded import check_affine
from monai_tpseg.io.orientation import LPS_TO_RAS

__all__ = ["FAULTS", "Fault", "Irregular", "slice_places"]

Irregular = Literal["refuse", "slices"]
"""How to handle slices at unequal distances or stacked obliquely."""

Fault = Literal["gap", "tilt"]

FAULTS: dict[ReadCode, Fault] = {"E_SERIES_GAP": "gap", "E_SERIES_TILT": "tilt"}
"""Error code of an irregular stack -> its value in the metadata."""


def slice_places(headers: Sequence[Dataset], name: object) -> NDArray[np.float64]:
    """Return the affine of each slice, (D, 4, 4) index (column, row, 0) -> RAS mm; the third step is its thickness.

    Args:
        headers: headers that passed `check_stack`, sorted along their normal.
        name: name used in error messages.

    Raises:
        ReadError: `E_GEOMETRY`.
    """
    positions = np.array([position(header) for header in headers], dtype=np.float64)
    nearest = float(np.linalg.norm(np.diff(positions, axis=0), axis=1).min())
    return np.stack([check_affine(_place(header, nearest), name) for header in headers])


def _place(header: Dataset, nearest: float) -> NDArray[np.float64]:
    """Without a stated thickness, the smallest slice distance is used."""
    across, spacing, place = directions(header), pixel_spacing(header), position(header)
    assert across is not None
    assert spacing is not None
    assert place is not None
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across[0] * spacing[1], across[1] * spacing[0]
    affine[:3, 2] = np.cross(across[0], across[1]) * (thickness(header) or nearest)
    affine[:3, 3] = place
    placed: NDArray[np.float64] = LPS_TO_RAS @ affine
    return placed
