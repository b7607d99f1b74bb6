"""The two forms of a NIfTI header, sform and qform, and whether all programs take the same geometry from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.lengths import nifti_scale, sheared
from monai_tpseg.io.rounding import DEGREES, MILLIMETRES

__all__ = ["geometry_disagrees"]

_LAST_FORM = 5  # codes of sform and qform; 0 and, for all programs, less: the form is not used
_HALF_TURN = 1e-7  # of 1 - b^2 - c^2 - d^2; below it, the standard's code normalises (b, c, d) to a half turn


def geometry_disagrees(header: Any) -> bool:
    """Return whether programs read the edges, axes or position of a NIfTI header differently.

    nibabel takes the sform, ITK in most cases the qform, and ITK refuses a sheared sform without a qform. They
    disagree if

    - the code of a form is none of the standard's, as some programs use the form nevertheless, or neither form is
      coded, as nibabel and ITK then assume different axes;
    - sform and `pixdim` state different edges: the far edges of the volume are over `rounding.MILLIMETRES` apart;
    - both forms are coded, and differ in the position of the first voxel by more than `rounding.MILLIMETRES` or in the
      direction of an axis by more than `rounding.DEGREES`;
    - the axes of the sform are sheared.

    Args:
        header: a nibabel header, not repaired.
    """
    codes = int(header["sform_code"]), int(header["qform_code"])
    if max(codes) > _LAST_FORM or max(codes) <= 0:
        return True
    if codes[0] <= 0:
        return False
    count, scale = min(int(header["dim"][0]), 3), nifti_scale(header) or 1.0
    placed = np.array([header[f"srow_{axis}"] for axis in "xyz"], dtype=np.float64)  # (3, 4)
    axes = placed[:, :count]
    if _edges_disagree(header, axes, scale) or (count == 3 and sheared(axes)):
        return True
    return codes[1] > 0 and _forms_disagree(header, placed, count, scale)


def _edges_disagree(header: Any, axes: NDArray[np.float64], scale: float) -> bool:
    count = axes.shape[1]
    edges = np.abs(header["pixdim"][1 : 1 + count].astype(np.float64))
    sizes = np.maximum(header["dim"][1 : 1 + count].astype(np.float64), 1)
    stated = np.isfinite(edges) & (edges > 0)
    apart = np.abs(np.linalg.norm(axes, axis=0) - edges) * sizes * scale
    return bool((apart > MILLIMETRES)[stated].any())


def _forms_disagree(header: Any, placed: NDArray[np.float64], count: int, scale: float) -> bool:
    first = np.array([header[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
    long = header["dim"][1 : 1 + count] > 1  # the direction of an axis of one voxel moves nothing
    units = (placed[:, :count] / np.linalg.norm(placed[:, :count], axis=0))[:, long]
    chords = np.linalg.norm(units - _qform_axes(header)[:, :count][:, long], axis=0)
    shift = np.linalg.norm(placed[:, 3] - first) * scale
    same = shift <= MILLIMETRES and bool((chords <= 2 * np.sin(np.radians(DEGREES / 2))).all())
    return not same  # so also if a number is NaN


def _qform_axes(header: Any) -> NDArray[np.float64]:
    """(3, 3) unit axes of the qform in columns, computed as in the standard's own code, nifti1_io.c."""
    b, c, d = (float(header[f"quatern_{part}"]) for part in "bcd")
    left = 1 - (b * b + c * c + d * d)
    if left < _HALF_TURN:
        a, (b, c, d) = 0.0, np.array([b, c, d]) / np.sqrt(b * b + c * c + d * d)
    else:
        a = np.sqrt(left)
    axes = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    return axes * [1, 1, -1 if float(header["pixdim"][0]) < 0 else 1]
