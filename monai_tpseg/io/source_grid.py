"""Exact conversion from the grid of a loaded image to the axes of its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.io import meta_keys
from monai_tpseg.io.orientation import GridError, align

__all__ = ["is_irregular", "matrix", "on_image_grid", "on_source_grid", "slice_affines", "slice_order", "source_path"]


def on_source_grid(values: torch.Tensor, meta: Mapping[str, Any]) -> NDArray[Any]:
    """Return `values` on the axes of the source array; axes are permuted and flipped, nothing is resampled.

    Args:
        values: (1, H, W) or (1, H, W, D) on the grid of the loaded image or a flip of it; a MetaTensor has its own
            affine, a tensor uses that of `meta`.
        meta: metadata of the image from `LoadMedicalImage`.

    Returns:
        an array of shape `source_shape`.

    Raises:
        ValueError: the values are not on that grid.
    """
    array = torch.as_tensor(values).detach().cpu().numpy()[0]
    shape = tuple(int(n) for n in np.asarray(meta[meta_keys.SOURCE_SHAPE]))
    affine = values.affine if isinstance(values, MetaTensor) else meta[meta_keys.AFFINE]
    flat = array[..., None] if array.ndim == 2 else array
    try:
        turned = align(flat, matrix(affine), matrix(meta[meta_keys.ORIGINAL_AFFINE]), (*shape, 1)[:3])
    except GridError as error:
        name = source_path(meta)
        raise ValueError(
            f"The mask of {name} is not on the source grid: {error}; invert the resizing first."
        ) from error
    return turned.reshape(shape)


def on_image_grid(values: torch.Tensor, image: MetaTensor) -> torch.Tensor:
    """Return `values` as (H, W) or (H, W, D) on the grid of `image`.

    Args:
        values: (1, H, W) or (1, H, W, D) on that grid or, as a MetaTensor, a flip of it.
        image: (C, H, W) or (C, H, W, D).
    """
    if image.ndim == 3:  # the source grid of a picture is its own grid
        return torch.from_numpy(on_source_grid(values, image.meta))
    if not isinstance(values, MetaTensor):
        return values[0].detach().cpu()
    array = values.as_tensor()[0].detach().cpu().numpy()
    return torch.from_numpy(align(array, matrix(values.affine), matrix(image.affine), image.shape[1:]))


def is_irregular(meta: Mapping[str, Any]) -> bool:
    """Return whether the slices have individual positions and no common grid, because of gaps or gantry tilt."""
    return meta_keys.IRREGULAR in meta


def slice_affines(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the affines of the slices of an irregular source, (D, 4, 4) column, row -> RAS mm, in source order."""
    seen, turn = np.asarray(meta[meta_keys.SLICE_AFFINES], dtype=np.float64), _turn(meta)  # row, column as displayed
    inside = turn.copy()
    inside[2] = [0, 0, turn[2, 2], 0]
    placed = np.empty_like(seen)
    placed[slice_order(meta)] = seen @ np.linalg.inv(inside)
    return placed


def slice_order(meta: Mapping[str, Any]) -> NDArray[np.int_]:
    """Return the source index of each displayed slice."""
    turn = _turn(meta)
    order: NDArray[np.int_] = (turn[2, 2] * np.arange(len(meta[meta_keys.SLICE_AFFINES])) + turn[2, 3]).astype(int)
    return order


def _turn(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """(4, 4) index of the tensor -> index of the source array: axes permuted and flipped."""
    turn: NDArray[np.float64] = np.round(
        np.linalg.inv(matrix(meta[meta_keys.ORIGINAL_AFFINE])) @ matrix(meta[meta_keys.AFFINE])
    )
    return turn


def source_path(meta: Mapping[str, Any]) -> Path:
    """Return the path that was read."""
    return Path(str(meta[meta_keys.FILENAME]))


def matrix(affine: Any) -> NDArray[np.float64]:
    """Return an affine as (4, 4) float64."""
    return np.asarray(affine, dtype=np.float64)
