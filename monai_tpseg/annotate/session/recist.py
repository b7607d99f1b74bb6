"""The two axes that RECIST measures a lesion by: its longest diameter on a slice, and the longest one across it."""

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
        slice: that they lie on, from 0.
        long: the longest diameter, from corner to corner of pixels as `diameter` of `lesions.csv`.
        short: the longest one at a right angle to it.
        sizes: of both, in millimetres, or in pixels where the source has none.
    """

    slice: int
    long: Axis
    short: Axis
    sizes: tuple[float, float]


def axes_of(mask: NDArray[np.bool_], sides: tuple[float, float] = (1.0, 1.0), index: int = 0) -> Axes:
    """Return the axes of what is marked, as callipers around it find them (Eisenhauer et al. 2009, RECIST 1.1).

    Args:
        mask: (H, W), at least one pixel is marked.
        sides: height and width of a pixel.
        index: of the slice.
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
    """The pixels whose four neighbours are marked too: none of their corners lies on the hull."""
    wide = np.pad(mask, 1)
    inside: NDArray[np.bool_] = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inside


def _widest(hull: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Where a convex polygon (N, 2) is widest along its second axis, and between which values; that is at a corner."""
    best = (0.0, (0.0, -1.0))
    starts, ends = hull, np.roll(hull, -1, axis=0)  # of its edges
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
