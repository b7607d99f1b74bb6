"""Metadata of a loaded image whose spacing follows the affine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io import meta_keys
from monai_tpseg.io.orientation import voxel_sizes

__all__ = ["GridMeta", "with_own_spacing"]


class GridMeta(dict[str, Any]):
    """Metadata whose `spacing` always agrees with its `affine`.

    MONAI's transforms update the affine when they resample, flip or crop, but not a separate spacing. Copies keep this
    type; the metadata of a batch is a plain dict with the values at that time.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        before = self.get(meta_keys.AFFINE) if key == meta_keys.AFFINE and meta_keys.SPACING in self else None
        super().__setitem__(key, value)
        if before is not None:
            super().__setitem__(meta_keys.SPACING, _moved(self, _matrix(before), _matrix(value)))

    def copy(self) -> GridMeta:
        """Return a shallow copy of the same type."""
        return GridMeta(self)


def with_own_spacing(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of an image inverted to the grid of the loaded image, with the spacing of that grid."""
    if meta_keys.SPACING not in meta:
        return meta
    return meta | {meta_keys.SPACING: np.asarray(meta[meta_keys.LOADED_SPACING])}


def _moved(meta: dict[str, Any], before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spacing of the grid `after` in mm."""
    spacing = np.asarray(meta[meta_keys.SPACING], dtype=np.float64)
    if np.array_equal(before, after):
        return spacing
    if str(meta.get(meta_keys.KIND)) == "volume":
        return np.asarray(voxel_sizes(after), dtype=np.float64)
    axes = len(spacing)
    step = (np.linalg.inv(before) @ after)[:axes, :axes]  # a picture's affine is in pixels
    moved: NDArray[np.float64] = np.linalg.norm(np.diag(spacing) @ step, axis=0)
    return moved


def _matrix(affine: Any) -> NDArray[np.float64]:
    return np.asarray(affine, dtype=np.float64)
