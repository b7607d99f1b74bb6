"""The output of a reader, before labels, channels and orientation are handled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.lengths import check_directions, check_edges, check_position
from monai_tpseg.io.meta_keys import Intensity

__all__ = ["Array", "Source", "check_affine"]

Array = NDArray[np.float32]


@dataclass
class Source:
    """Pixels in the order of a file.

    Args:
        array: (C, H, W) for a picture, (C, x, y, z) for a volume; C is 1 or 3; float32.
        intensity: `display` (0 to 255) or `physical`.
        affine: (4, 4) index -> RAS millimetres of a volume; None for a picture.
        stack_axis: axis (0, 1, 2) along which the slices were acquired, if stated.
        spaced: whether the spacing is known and uniform. False for a cine, for a header without lengths and for
            irregular slices; the affine then contains a placeholder.
        stacked: whether the slices form a volume. False for frames of a cine and irregular slices, which can only be
            shown as stored.
        slice_affines: (z, 4, 4) index (x, y, 0) -> RAS millimetres of each irregular slice.
        files: files of a DICOM source, in the order of z.
        meta: metadata from the reader, by the keys of `monai_tpseg.io.meta_keys`.
    """

    array: Array
    intensity: Intensity
    affine: NDArray[np.float64] | None = None
    stack_axis: int | None = None
    spaced: bool = True
    stacked: bool = True
    slice_affines: NDArray[np.float64] | None = None
    files: tuple[Path, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


def check_affine(affine: Any, name: object) -> NDArray[np.float64]:
    """Return `affine` as (4, 4) float64.

    Raises:
        ReadError: `E_GEOMETRY`, the affine is not finite, collapses an axis, or has implausible voxels or positions.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    axes = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    check_directions(axes, name)
    check_edges(np.linalg.norm(axes, axis=0), name)
    check_position(matrix[:3, 3], name)
    return matrix
