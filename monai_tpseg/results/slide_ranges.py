"""Size of each lesion of a slide within its inner and its outer contour, from the runs of three masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.results.measurements import Lesion
from monai_tpseg.results.run_length import Ints, RunMask

__all__ = ["with_slide_range"]

_CELLS = 2**22  # cells of the grid on which lesions of one connected part divide it
_AT_ONCE = 2**20  # cells of runs in one step


def with_slide_range(
    lesions: Sequence[Lesion],
    regions: Sequence[int],
    mask: RunMask,
    inner: RunMask,
    outer: RunMask,
    mpp: tuple[float, float],
    cells: int = _CELLS,
) -> list[Lesion]:
    """Return the lesions of a slide with their sizes within both contours.

    As in `monai_tpseg.results.measurements.with_range`: a pixel of the outer contour is assigned to the nearest lesion
    of its connected part, and parts without a lesion are left out. Lesions that share a part divide it on a grid of
    square cells, of one pixel each unless the part extends over more than `cells` pixels; the sum over the lesions of a
    part is exact on any grid. Memory grows with the runs and with `cells`, not with the slide.

    Args:
        lesions: lesions of `measure_regions`.
        regions: region of `mask` of each lesion.
        mask: the mask; it contains `inner`, except for regions that were dropped as too small.
        inner: mask of the inner contour.
        outer: mask of the outer contour, which contains `mask`.
        mpp: (row, column) micrometres per pixel.
        cells: the largest number of cells of the grid.
    """
    if not lesions:
        return list(lesions)
    count, of_run = mask.labels()
    inside = _holder(mask, inner)
    least = np.bincount(of_run[inside[inside >= 0]], inner.lengths[inside >= 0], count)
    parts, part_of_run = outer.labels()
    part = np.zeros(count, np.int64)
    part[of_run] = part_of_run[_holder(outer, mask)]
    most = np.bincount(part_of_run, outer.lengths, parts).astype(np.float64)[part]
    for shared in np.flatnonzero(np.bincount(part, minlength=parts) > 1):
        own = part[of_run] == shared
        most[part == shared] = 0
        most += _divided(mask.where(own), of_run[own], count, outer.where(part_of_run == shared), mpp, cells)
    area = mpp[0] * mpp[1]
    return [
        replace(lesion, size_inner=round(float(least[n]) * area, 3), size_outer=round(float(most[n]) * area, 3))
        for lesion, n in zip(lesions, regions, strict=True)
    ]


def _holder(outer: RunMask, inner: RunMask) -> Ints:
    """(N,): for each run of `inner`, the run of `outer` that contains it; -1 where there is none."""
    stride = outer.shape[1] + 1
    found = np.searchsorted(outer.row * stride + outer.start, inner.row * stride + inner.start, "right") - 1
    at = np.maximum(found, 0)
    held = (found >= 0) & (outer.row[at] == inner.row) & (outer.end[at] >= inner.end) if len(outer.row) else found >= 0
    return np.where(held, found, -1).astype(np.int64)


def _divided(
    lesions: RunMask, number: Ints, count: int, outer: RunMask, mpp: tuple[float, float], cells: int
) -> NDArray[np.float64]:
    """(count,): pixels of one connected part that belong to each of its lesions, whose runs are numbered."""
    top, left = int(outer.row.min()), int(outer.start.min())
    height, width = int(outer.row.max()) + 1 - top, int(outer.end.max()) - left
    step = int(np.ceil(np.sqrt(height * width / cells)))
    owner = np.full((-(-height // step), -(-width // step)), -1, np.int64)
    for runs, row, column, _ in _cut(lesions.row - top, lesions.start - left, lesions.end - left, step):
        owner[row, column] = number[runs]
    nearest = ndimage.distance_transform_edt(owner < 0, sampling=mpp, return_distances=False, return_indices=True)
    owner = owner[tuple(nearest)]
    sizes = np.bincount(number, lesions.lengths, count).astype(np.float64)
    for _, row, column, pixels in _cut(*_rest(outer, lesions, top, left), step):
        sizes += np.bincount(owner[row, column], pixels, count)
    return sizes


def _rest(outer: RunMask, lesions: RunMask, top: int, left: int) -> tuple[Ints, Ints, Ints]:
    """Row, start and end of the runs of `outer` without those of `lesions`, which lie in them; from (top, left)."""
    stride = outer.shape[1] + 1  # an end may equal the width
    starts = np.sort(np.concatenate([outer.row * stride + outer.start, lesions.row * stride + lesions.end]))
    ends = np.sort(np.concatenate([outer.row * stride + outer.end, lesions.row * stride + lesions.start]))
    kept = ends > starts
    row, start = np.divmod(starts[kept], stride)
    return row - top, start - left, ends[kept] - row * stride - left


def _cut(row: Ints, start: Ints, end: Ints, step: int) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """Runs cut into cells of `step` pixels: the run, row and column of each cell, and the pixels of the run in it."""
    first, spans = start // step, (end - 1) // step - start // step + 1
    begun = np.cumsum(spans)
    for low in range(0, int(begun[-1]) if len(begun) else 0, _AT_ONCE):
        cell = np.arange(low, min(low + _AT_ONCE, int(begun[-1])))
        runs = np.searchsorted(begun, cell, "right")
        column = first[runs] + cell - (begun[runs] - spans[runs])
        pixels = np.minimum(end[runs], (column + 1) * step) - np.maximum(start[runs], column * step)
        yield runs, row[runs] // step, column, pixels
