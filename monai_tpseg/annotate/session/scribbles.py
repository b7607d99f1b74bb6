"""Conversion of scribbles to clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["thin_line"]

_STEP = 1 / 24  # distance of clicks along a line, relative to the longer side: far enough apart for the network
_MOST = 16  # maximum clicks per line: each adds to the cost of a decoder pass


def thin_line(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Return equidistant points along a line, including both ends; one point for a short line.

    Args:
        points: (row, column) in drawing order, at least one.
        size: (H, W) of the picture.
    """
    line: NDArray[Any] = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    count = min(int(length[-1] / (_STEP * max(size))) + 1, _MOST)
    if count == 1:
        middle = int(np.argmin(np.abs(length - length[-1] / 2)))
        return [(float(line[middle, 0]), float(line[middle, 1]))]
    places = np.linspace(0, length[-1], count)
    rows, columns = (np.interp(places, length, line[:, axis]) for axis in (0, 1))
    return [(float(row), float(column)) for row, column in zip(rows, columns, strict=True)]
