"""Drawing on masks: brush strokes and outlines as pixels, and clean-up of masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.lesions import label_lesions

__all__ = ["brushed", "fill_holes", "outlined", "piece_at", "smooth"]

Mask = NDArray[np.bool_]
Points = Sequence[tuple[float, float]]

_SIGMA = 1.5  # standard deviation in pixels of the Gaussian that smooths a mask before thresholding at 0.5


def brushed(points: Points, diameter: float, shape: tuple[int, int], sides: tuple[float, float] = (1, 1)) -> Mask:
    """Return the pixels whose centres are covered by the stroke of a round brush.

    Args:
        points: (row, column) of the stroke, integers at pixel centres; may lie outside the picture.
        diameter: diameter of the brush, in units of `sides`; the pixels along the stroke are always covered.
        shape: (H, W) of the mask.
        sides: height and width of a pixel: the brush is round in the patient, not on the grid.
    """
    covered = np.zeros(shape, np.bool_)
    scale, radius = np.asarray(sides, np.float64), diameter / 2
    way = np.asarray(points, np.float64).reshape(-1, 2)
    for start, end in pairwise(way if len(way) > 1 else np.repeat(way, 2, axis=0)):
        low = np.floor(np.minimum(start, end) - radius / scale).clip(0, shape).astype(int)
        high = np.ceil(np.maximum(start, end) + radius / scale).clip(-1, np.asarray(shape) - 1).astype(int) + 1
        if (low >= high).any():
            continue
        rows, columns = np.ogrid[low[0] : high[0], low[1] : high[1]]
        (row, column), (down, across) = start * scale, (end - start) * scale
        y, x = rows * scale[0] - row, columns * scale[1] - column
        length = down**2 + across**2
        along = np.clip((y * down + x * across) / length, 0, 1) if length else 0.0
        near = (y - along * down) ** 2 + (x - along * across) ** 2 <= radius**2
        covered[low[0] : high[0], low[1] : high[1]] |= near
    return covered | _under(way, shape)


def outlined(points: Points, shape: tuple[int, int]) -> Mask:
    """Return the pixels whose centres lie inside a closed line (non-zero winding number).

    Args:
        points: (row, column) of its vertices, integers at pixel centres; the last one is joined to the first.
        shape: (H, W) of the mask.
    """
    height, width = shape
    turns = np.zeros((height, width + 1), np.int32)  # winding number at each pixel, from crossings to its left
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    for (row, column), (to_row, to_column) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (int(np.clip(np.ceil(x), 0, height)) for x in sorted((row, to_row)))
        rows = np.arange(first, last)  # the lower end of an edge counts, the upper end belongs to the next edge
        crossed = column + (rows - row) * ((to_column - column) / (to_row - row or 1))
        at = np.ceil(crossed).clip(0, width).astype(int)
        np.add.at(turns, (rows, at), 1 if to_row > row else -1)
    return cast(Mask, turns[:, :-1].cumsum(axis=1) != 0)


def fill_holes(mask: Mask) -> Mask:
    """Return `mask` (H, W) with its holes filled."""
    return cast(Mask, ndimage.binary_fill_holes(mask))


def smooth(mask: Mask) -> Mask:
    """Return `mask` (H, W) with a smoothed outline; straight edges do not move."""
    return cast(Mask, ndimage.gaussian_filter(mask.astype(np.float32), _SIGMA, mode="nearest") > 0.5)


def piece_at(mask: Mask, row: int, column: int) -> Mask:
    """Return the connected component of `mask` (H, W) at a pixel; empty if the pixel is not marked."""
    labels = label_lesions(mask)
    return cast(Mask, (labels == labels[row, column]) & mask) if mask[row, column] else np.zeros_like(mask)


def _under(way: NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """Return the pixels along a stroke, sampled in steps of less than a pixel."""
    covered = np.zeros(shape, np.bool_)
    steps = [np.linspace(start, end, int(min(np.abs(end - start).max() * 2, 1e5)) + 2) for start, end in pairwise(way)]
    places = np.rint(np.concatenate([way, *steps])).clip(-1, np.asarray(shape)).astype(int)
    inside = ((places >= 0) & (places < shape)).all(axis=1)
    covered[tuple(places[inside].T)] = True
    return covered
