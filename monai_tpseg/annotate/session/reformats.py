"""The two planes across the slices of a volume: extraction and orientation on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.annotate.session.sides import PLANE_SIDES
from monai_tpseg.io import meta_keys
from monai_tpseg.io.orientation import PLANES
from monai_tpseg.io.source_grid import is_irregular

__all__ = ["Reformat", "cut", "reformats_of"]

_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


class Reformat(NamedTuple):
    """A plane across the slices; axes are numbered as in (rows, columns, slices) of the volume.

    Attributes:
        plane: `axial`, `coronal` or `sagittal`.
        across: axis perpendicular to the plane, along which pictures are indexed.
        axes: axes of its rows and of its columns.
        flipped: whether each axis is reversed, for the radiological view of the plane.
        shape: numbers of rows and columns.
        spacing: spacing of rows and of columns in mm.
        sides: the patient's side at each edge, `up`, `down`, `west` and `east`.
    """

    plane: str
    across: int
    axes: tuple[int, int]
    flipped: tuple[bool, bool]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    sides: Mapping[str, str]


def reformats_of(
    meta: Mapping[str, Any], shape: tuple[int, int, int], spacing: tuple[float, ...] | None
) -> tuple[Reformat, ...]:
    """Return both planes across the slices of a volume.

    Args:
        meta: metadata of the image from `LoadMedicalImage`.
        shape: numbers of rows, columns and slices.
        spacing: spacing of each in mm.

    Returns:
        both planes; empty for a picture, a single slice, frames without a position in the patient, and slices without
        a common distance, whose other planes would be distorted.
    """
    seen = PLANES.get(str(meta.get(meta_keys.PLANE, "")))
    if seen is None or shape[2] < 2 or spacing is None or is_irregular(meta):
        return ()
    found = []
    for plane, letters in PLANES.items():
        if letters == seen:
            continue
        (row, back_row), (column, back_column) = (_axis(seen, letter) for letter in letters[:2])
        size = shape[row], shape[column]
        more = size, (spacing[row], spacing[column]), PLANE_SIDES[plane]
        found.append(Reformat(plane, 3 - row - column, (row, column), (back_row, back_column), *more))
    return tuple(found)


def cut(volume: NDArray[Any], reformat: Reformat, index: int) -> NDArray[Any]:
    """Return one picture of a plane as a view of the volume: (..., rows, columns, slices) -> (..., h, w).

    Args:
        volume: (..., H, W, D) on the grid of the case.
        reformat: the plane.
        index: index along `reformat.across`, from 0.
    """
    picture = np.moveaxis(volume, reformat.across - 3, -1)[..., index]
    if reformat.axes[0] > reformat.axes[1]:
        picture = picture.swapaxes(-2, -1)
    flips = tuple(axis for axis, flipped in zip((-2, -1), reformat.flipped, strict=True) if flipped)
    return np.flip(picture, flips)


def _axis(seen: str, letter: str) -> tuple[int, bool]:
    """Return the axis of the volume towards or from a side of the patient, and whether it runs from it."""
    if letter in seen:
        return seen.index(letter), False
    return seen.index(_OPPOSITE[letter]), True
