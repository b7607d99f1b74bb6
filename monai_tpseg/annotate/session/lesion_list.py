"""The lesions of a case as its table has them: numbered by size, with their size, and where to look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io import meta_keys
from monai_tpseg.io.source_grid import is_irregular, matrix
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.segment import find_lesions

__all__ = ["ListedLesion", "list_lesions", "without_lesion"]

Stack = Mapping[int, tuple[NDArray[np.bool_], NDArray[np.float32]]]
"""Slice -> its mask (H, W) and the probabilities of what is marked; slices without a mask may be missing."""


class ListedLesion(NamedTuple):
    """A connected lesion.

    Attributes:
        number: 1, 2, ... by size, as in `lesions.csv`.
        size: in `unit`.
        unit: `mm3` of a volume, `mm2` of a picture or of a slice, `px` where the source has no millimetres.
        diameter: longest, in millimetres, or in pixels where the unit of the size is `px`.
        slices: the first and the last one that it lies on.
        place: (slice, row, column) of a marked pixel of it, on the slice where it is largest.
    """

    number: int
    size: float
    unit: str
    diameter: float
    slices: tuple[int, int]
    place: tuple[int, int, int]


def list_lesions(stack: Stack, meta: Mapping[str, Any]) -> list[ListedLesion]:
    """Return the lesions of a case, the largest first.

    Args:
        stack: masks of the case.
        meta: the meta of the image from `LoadMedicalImage`.
    """
    found = _Labelled.of(stack, meta)
    if found is None:
        return []
    measured = measure_lesions(found.labels, found.prob, found.meta, "", "")
    listed = []
    for lesion in measured:
        sizes = (found.labels == lesion.lesion).sum(axis=(0, 1)) if found.labels.ndim == 3 else np.ones(1)
        at = np.flatnonzero(sizes)
        largest = int(np.argmax(sizes))
        plane = found.plane(largest) == lesion.lesion
        row, column = np.argwhere(plane)[int(plane.sum()) // 2].tolist()
        place = largest + found.first, row + found.top, column + found.left
        slices = int(at[0]) + found.first, int(at[-1]) + found.first
        listed.append(ListedLesion(lesion.lesion, lesion.size, lesion.size_unit, lesion.diameter, slices, place))
    return listed


def without_lesion(
    stack: Stack, meta: Mapping[str, Any], place: tuple[int, int, int]
) -> dict[int, NDArray[np.bool_]] | None:
    """Return the masks of the slices that the lesion at a marked pixel lies on, without it; None where none lies there.

    Args:
        stack: masks of the case.
        meta: the meta of the image from `LoadMedicalImage`.
        place: (slice, row, column).
    """
    index, row, column = place
    if index not in stack or not stack[index][0][row, column]:
        return None
    found = _Labelled.of(stack, meta)
    assert found is not None  # a pixel is marked
    number = found.plane(index - found.first)[row - found.top, column - found.left]
    masks: dict[int, NDArray[np.bool_]] = {}
    for at, (mask, _) in stack.items():
        if not mask.any():
            continue
        inside = found.plane(at - found.first) == number
        if inside.any():
            masks[at] = mask.copy()
            masks[at][found.top : found.top + inside.shape[0], found.left : found.left + inside.shape[1]] &= ~inside
    return masks


class _Labelled(NamedTuple):
    """The part of a case that holds its masks, so that a small lesion costs little in a large volume."""

    labels: NDArray[np.int32]  # (h, w[, d])
    prob: NDArray[np.float32]
    meta: Mapping[str, Any]
    first: int
    top: int
    left: int

    def plane(self, number: int) -> NDArray[np.int32]:
        return self.labels if self.labels.ndim == 2 else self.labels[..., number]

    @classmethod
    def of(cls, stack: Stack, meta: Mapping[str, Any]) -> _Labelled | None:
        marked = {index: one for index, one in stack.items() if one[0].any()}
        if not marked:
            return None
        every = np.logical_or.reduce([mask for mask, _ in marked.values()])
        rows, columns = np.flatnonzero(every.any(axis=1)), np.flatnonzero(every.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        first, last = min(marked), max(marked)
        empty = np.zeros(every[box].shape, np.bool_)
        planes = [marked[n][0][box] if n in marked else empty for n in range(first, last + 1)]
        probs = [marked[n][1][box] if n in marked else empty.astype(np.float32) for n in range(first, last + 1)]
        if str(meta[meta_keys.KIND]) == "picture":
            return cls(find_lesions(planes[0], meta), probs[0], meta, first, int(rows[0]), int(columns[0]))
        if is_irregular(meta):  # each slice has its own place
            meta = {**meta, meta_keys.SLICE_AFFINES: matrix(meta[meta_keys.SLICE_AFFINES])[first : last + 1]}
        labels = find_lesions(np.stack(planes, axis=-1), meta)
        return cls(labels, np.stack(probs, axis=-1), meta, first, int(rows[0]), int(columns[0]))
