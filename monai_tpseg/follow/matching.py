"""Matching of the lesions of two studies by their position in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["COVERED", "SHARED", "Change", "Group", "Place", "match_lesions"]

Change = Literal["matched", "new", "gone", "merged", "split", "regrouped", "not_covered_before", "not_covered_any_more"]

SHARED = 0.1
"""Share of a lesion that must lie in the other one, whichever share is larger, to be the same lesion."""

COVERED = 0.5
"""Share of a lesion that must lie within the other study's volume before its absence there means something."""


class Place(NamedTuple):
    """Numbered lesions (H, W, D) of a study, and the affine (4, 4): index -> RAS mm."""

    numbered: NDArray[np.int32]
    affine: NDArray[np.float64]


class Group(NamedTuple):
    """Matched lesions.

    Attributes:
        first: numbers in the first study.
        second: numbers in the second study.
        change: kind of change.
        distance: distance of the centroids in mm after alignment; None for lesions of one study only.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    change: Change
    distance: float | None


def match_lesions(
    first: Place, second: Place, matrix: NDArray[np.float64] | None = None, tolerance: float = 10.0
) -> list[Group]:
    """Match lesions that overlap, and the remaining ones that are mutually nearest by centroid.

    Args:
        first: lesions of the earlier study.
        second: lesions of the later study.
        matrix: (4, 4) RAS mm of the first study -> RAS mm of the second; identity by default.
        tolerance: maximum distance of the centroids in mm for lesions that do not overlap.

    Returns:
        groups that contain each lesion once; those with lesions of the first study come first, by number.

    Raises:
        ValueError: the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"The tolerance must be 0 mm or more, got {tolerance}.")
    there = np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64)
    reverse = np.asarray(np.linalg.inv(there), dtype=np.float64)
    ahead, back = _Moved(first, second, there), _Moved(second, first, reverse)
    linked = (ahead.shares >= SHARED) | (back.shares.T >= SHARED)
    distances = np.linalg.norm(ahead.centres[:, None] - _centres(second)[None], axis=2)
    linked |= _nearest(distances, linked, tolerance)
    groups = [_group(a, b, ahead, back, distances) for a, b in _components(linked)]
    return sorted(groups, key=lambda group: (not group.first, group.first or group.second))


class _Moved:
    """The lesions of one study on the grid of another.

    Attributes:
        shares: (lesions, lesions of the other study) share of a lesion's voxels within each of the other lesions.
        covered: (lesions,) share of a lesion's voxels within the other volume.
        centres: (lesions, 3) centroids in RAS mm of the other study.
    """

    def __init__(self, own: Place, other: Place, matrix: NDArray[np.float64]) -> None:
        count, others = _count(own), _count(other)
        index = np.argwhere(own.numbered)
        number = own.numbered[tuple(index.T)]
        world = np.c_[index, np.ones(len(index))] @ (matrix @ own.affine).T
        at = np.floor(world @ np.linalg.inv(other.affine).T[:, :3] + 0.5).astype(np.int64)
        inside = ((at >= 0) & (at < other.numbered.shape)).all(axis=1)
        met = np.zeros(len(index), dtype=np.int64)
        met[inside] = other.numbered[tuple(at[inside].T)]
        voxels = np.maximum(np.bincount(number, minlength=count + 1)[1:], 1)
        pairs = np.bincount(number * (others + 1) + met, minlength=(count + 1) * (others + 1))
        self.shares = pairs.reshape(count + 1, others + 1)[1:, 1:] / voxels[:, None]
        self.covered = np.bincount(number[inside], minlength=count + 1)[1:] / voxels
        self.centres = _centres(Place(own.numbered, matrix @ own.affine))


def _count(place: Place) -> int:
    return int(place.numbered.max(initial=0))


def _centres(place: Place) -> NDArray[np.float64]:
    """Return the centroids in RAS mm, (lesions, 3)."""
    index = np.argwhere(place.numbered)
    number = place.numbered[tuple(index.T)]
    voxels = np.maximum(np.bincount(number, minlength=_count(place) + 1)[1:], 1)
    sums = [np.bincount(number, axis, _count(place) + 1)[1:] for axis in index.T]
    world: NDArray[np.float64] = np.c_[(np.array(sums) / voxels).T, np.ones(len(voxels))] @ place.affine.T
    return world[:, :3]


def _nearest(distances: NDArray[np.float64], linked: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    """Return the mutually nearest pairs of unlinked lesions within the tolerance."""
    taken = linked.any(axis=1, keepdims=True) | linked.any(axis=0, keepdims=True)
    free = np.where(taken, np.inf, distances)
    best = np.zeros_like(linked)
    if free.size:
        mutual = (free == free.min(1, keepdims=True)) & (free == free.min(0, keepdims=True))
        best = mutual & (free <= tolerance)
    return best


def _components(linked: NDArray[np.bool_]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the numbers of the lesions of both studies for each group."""
    first, second = linked.shape
    rows, columns = np.nonzero(linked)
    graph = coo_array((np.ones(len(rows)), (rows, columns + first)), shape=(first + second,) * 2)
    count, owner = connected_components(graph, directed=False) if first + second else (0, np.zeros(0, dtype=int))
    members = [np.flatnonzero(owner == group) for group in range(count)]
    return [
        (tuple(int(n) + 1 for n in own if n < first), tuple(int(n) - first + 1 for n in own if n >= first))
        for own in members
    ]


def _group(
    first: tuple[int, ...], second: tuple[int, ...], ahead: _Moved, back: _Moved, distances: NDArray[np.float64]
) -> Group:
    if not second:
        seen = ahead.covered[_places(first)].min() >= COVERED
        return Group(first, second, "gone" if seen else "not_covered_any_more", None)
    if not first:
        seen = back.covered[_places(second)].min() >= COVERED
        return Group(first, second, "new" if seen else "not_covered_before", None)
    names: dict[tuple[bool, bool], Change] = {
        (False, False): "matched",
        (True, False): "merged",
        (False, True): "split",
        (True, True): "regrouped",
    }
    distance = float(distances[np.ix_(_places(first), _places(second))].min())
    return Group(first, second, names[len(first) > 1, len(second) > 1], round(distance, 2))


def _places(numbers: Sequence[int]) -> list[int]:
    return [number - 1 for number in numbers]
