"""From the voxels that a viewer names to the rows, columns and slices of a loaded image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_tpseg.io import meta_keys
from monai_tpseg.io.source_grid import matrix

__all__ = ["places_of"]


def places_of(points: Iterable[Sequence[float]], meta: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    """Return (row, column, slice) on the loaded image of points that a viewer has clicked.

    Args:
        points: (i, j, k) each: index into the source as ITK and 3D Slicer count it, x first; of a picture (x, y),
            whatever follows.
        meta: the meta of the image from `LoadMedicalImage`.

    Raises:
        ValueError: a point is none.
    """
    found = []
    picture = str(meta[meta_keys.KIND]) == "picture"
    turn = np.linalg.inv(matrix(meta[meta_keys.AFFINE])) @ matrix(meta[meta_keys.ORIGINAL_AFFINE])
    for point in points:
        values = np.asarray(point, np.float64)
        if values.shape not in ((2,), (3,)) or not np.isfinite(values).all():
            raise ValueError(f"A point is 2 or 3 numbers, i, j, k of a voxel; got {list(point)}.")
        if picture:
            found.append((float(values[1]), float(values[0]), 0))
            continue
        row, column, index = (turn @ np.append(values if len(values) == 3 else [*values, 0.0], 1.0))[:3]
        found.append((float(row), float(column), round(float(index))))
    return found
