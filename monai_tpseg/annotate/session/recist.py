"""The two axes of RECIST: the longest diameter of a lesion on a slice, and the longest perpendicular one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

__all__ = ["Axes", "Axis", "axes_of"]

Axis = tuple[tuple[float, float], tuple[float, float]]
"""Two ends, (row, column) each, pixel centres being whole numbers."""

_CORNERS = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])


class Axes(NamedTuple):
    """Both axes of a lesion on one slice.

    Attributes:
        slice: number of their slice, from 0.
        long: end points of the longest diameter, between corners of pixels as `diameter` in `lesions.csv`.
        short: end points of the longest diameter perpendicular to it.
        sizes: lengths of both in mm, or in pixels if the pixel size is unknown.
    """

    slice: int
    long: Axis
    short: Axis
    sizes: tuple[float, float]


def axes_of(mask: NDArray[np.bool_], sides: tuple[float, float] = (1.0, 1.0), index: int = 0) -> Axes:
    """Return the axes of a mask, measured as with callipers (Eisenhauer et al. 2009, RECIST 1.1).

    Args:
        mask: (H, W), not empty.
        sides: height and width of a pixel.
        index: number of the slice, from 0.
    """
    rim = mask & ~_within(mask)
    corners = (np.argwhere(rim)[:, None] + _CORNERS).reshape(-1, 2) * sides
    hull = corners[ConvexHull(corners).vertices]
    apart = cdist(hull, hull)
    first, last = (hull[n] for n in np.unravel_index(int(apart.argmax()), apart.shape))
    length = float(apart.max())
    along = (last - first) / length
    across = np.array([-along[1], along[0]])
    at, (low, high) = _widest(np.column_stack([hull @ along, hull @ across]))
    ends = [along * at + across * side for side in (low, high)]
    return Axes(
        index, _axis(first, last, sides), _axis(ends[0], ends[1], sides), (round(length, 3), round(high - low, 3))
    )


def _within(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels with four marked neighbours, whose corners are not on the convex hull."""
    wide = np.pad(mask, 1)
    inside: NDArray[np.bool_] = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inside


def _widest(hull: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Return where a convex polygon (N, 2) is widest along its second axis, at a vertex, and the two ends."""
    best = (0.0, (0.0, -1.0))
    starts, ends = hull, np.roll(hull, -1, axis=0)  # of the edges of the hull
    for at in hull[:, 0]:
        met = (np.minimum(starts[:, 0], ends[:, 0]) <= at) & (at <= np.maximum(starts[:, 0], ends[:, 0]))
        (x0, y0), (x1, y1) = starts[met].T, ends[met].T
        part = np.divide(at - x0, x1 - x0, out=np.zeros_like(x0), where=x1 != x0)
        values = np.concatenate([y0 + part * (y1 - y0), y1[x0 == x1]])
        if values.max() - values.min() > best[1][1] - best[1][0]:
            best = float(at), (float(values.min()), float(values.max()))
    return best


def _axis(start: NDArray[np.float64], end: NDArray[np.float64], sides: tuple[float, float]) -> Axis:
    (top, left), (bottom, right) = (np.round(point / sides, 2).tolist() for point in (start, end))
    return (top, left), (bottom, right)
