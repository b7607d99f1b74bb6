"""Outlines of a mask along pixel edges, as polygons with holes whose area equals that of the mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.results.run_length import Ints, RunMask

__all__ = ["Polygon", "doubled_area", "outlines"]

Ring = NDArray[np.int64]
"""(N, 2) corners, x and y, each once; pixel (row, column) covers column..column + 1, row..row + 1."""

_END, _START = 0, 1  # of a run; at a corner where two pixels meet the end comes first, which keeps the two apart


class Polygon(NamedTuple):
    """A part of a region: one outer ring, clockwise on the screen, and its holes, counter-clockwise."""

    region: int
    outer: Ring
    holes: list[Ring]


class _Corners(NamedTuple):
    """Corners of the outline; each belongs to one vertical and one horizontal edge."""

    x: Ints
    y: Ints
    side: Ints  # of the pixels beside the vertical edge: _END to its left, _START to its right
    run: Ints  # one of the runs beside the vertical edge


def outlines(mask: RunMask) -> list[Polygon]:
    """Return the outlines of `mask` as simple polygons with holes.

    Pixels that touch only at a corner belong to one region, but to two of its polygons, which share that corner, so
    that no ring touches itself.

    Args:
        mask: the mask.

    Returns:
        polygons with `region` numbered as in `mask.labels()`.
    """
    if not len(mask.row):
        return []
    corners = _corners(mask)
    regions, parts = mask.labels()[1], mask.labels(diagonal=False)[1]
    outer: dict[int, Polygon] = {}
    holes: list[tuple[int, Ring]] = []
    for way, run in _ways(corners):
        part = int(parts[run])
        for ring in _simple(way):
            if doubled_area(ring) > 0:
                outer[part] = Polygon(int(regions[run]), ring, [])
            else:
                holes.append((part, ring))
    for part, ring in holes:
        outer[part].holes.append(ring)
    return [outer[part] for part in sorted(outer)]


def _corners(mask: RunMask) -> _Corners:
    """Every run has a vertical edge at either end; where those of two rows continue each other there is no corner."""
    number = np.arange(len(mask.row))
    x = np.concatenate([mask.end, mask.start])
    side = np.repeat([_END, _START], len(number))
    row, run = np.tile(mask.row, 2), np.tile(number, 2)
    order = np.lexsort((row, side, x))
    x, side, row, run = (values[order] for values in (x, side, row, run))
    joined = (x[1:] == x[:-1]) & (side[1:] == side[:-1]) & (row[1:] == row[:-1] + 1)
    top, bottom = np.append(True, ~joined), np.append(~joined, True)
    # the upper and the lower corner of each vertical edge, one after the other
    pick = np.sort(np.concatenate([np.flatnonzero(top) * 2, np.flatnonzero(bottom) * 2 + 1]))
    which, low = pick // 2, pick % 2
    return _Corners(x[which], row[which] + low, side[which], run[which])


def _ways(corners: _Corners) -> list[tuple[Ring, int]]:
    """Follow the edges; (way, a run inside along it). Pixels lie to the right of the way: clockwise on the screen."""
    count = len(corners.x)
    across = np.empty(count, np.int64)  # the other end of the horizontal edge
    order = np.lexsort((corners.side, corners.x, corners.y)).reshape(-1, 2)
    across[order[:, 0]], across[order[:, 1]] = order[:, 1], order[:, 0]
    # a vertical edge (corners 2k, 2k + 1) runs down where its pixels lie to the left, else up
    edge = np.arange(count // 2)
    head = 2 * edge + (corners.side[::2] == _END)
    following = (across[head] // 2).tolist()
    seen, ways = np.zeros(len(edge), bool), []
    for first in range(len(edge)):
        if seen[first]:
            continue
        way, k = [], first
        while not seen[k]:
            seen[k] = True
            way.append(k)
            k = following[k]
        ends = np.stack([2 * np.array(way) + 1 - head[way] % 2, head[way]], axis=1).ravel()  # tail, head of each edge
        ways.append((np.stack([corners.x[ends], corners.y[ends]], axis=1), int(corners.run[2 * first])))
    return ways


def doubled_area(ring: Ring) -> int:
    """Twice the area: positive for a clockwise ring on the screen, where y runs down."""
    x, y = ring[:, 0], ring[:, 1]
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _simple(way: Ring) -> list[Ring]:
    """Split a way where it comes back to a corner: an outer ring from a hole that touches it, a hole from a hole."""
    found: list[list[tuple[int, ...]]] = []
    open_: list[tuple[int, ...]] = []
    at: dict[tuple[int, ...], int] = {}
    for corner in map(tuple, way.tolist()):
        if corner in at:
            cut = at[corner]
            found.append(open_[cut:])
            for gone in open_[cut:]:
                del at[gone]
            del open_[cut:]
        at[corner] = len(open_)
        open_.append(corner)
    return [np.array(part, np.int64) for part in (*found, open_)]
