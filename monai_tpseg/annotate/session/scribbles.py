"""A line drawn by hand as a few clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["thin_line"]

_STEP = 1 / 24  # distance of clicks along a line, of the longer side of the picture: they stay apart for the network
_MOST = 16  # clicks of one line: a decoder pass costs more with each


def thin_line(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Return points at even distances along a line, both of its ends among them; one where it is short.

    Args:
        points: (row, column) each, at least one, in the order in which the line was drawn.
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
