"""The list of the lesions of a case: numbered by size as in its table, with measurements and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from monai_tpseg.annotate.session.drawing import brushed
from monai_tpseg.annotate.session.history import LesionName
from monai_tpseg.annotate.session.lesion_names import deepest, named_lesions
from monai_tpseg.annotate.session.recist import Axes, Axis, axes_of
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.io import meta_keys
from monai_tpseg.io.source_grid import is_irregular, matrix
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.segment import find_lesions

__all__ = ["ListedLesion", "bridge_lesions", "list_lesions", "renamed", "without_lesion"]

Stack = Mapping[int, tuple[NDArray[np.bool_], NDArray[np.float32]]]
"""Slice -> its mask (H, W) and the probabilities of what is marked; slices without a mask may be missing."""


class ListedLesion(NamedTuple):
    """A connected lesion.

    Attributes:
        number: number by size, from 1, as in `lesions.csv`.
        size: size in `unit`.
        unit: `mm3` for a volume, `mm2` for a picture or slice, `px` if the pixel size is unknown.
        diameter: longest diameter in mm, or in pixels if the unit of the size is `px`.
        slices: first and last slice.
        place: (slice, row, column) of a marked pixel, on the slice with the largest area.
        axes: RECIST axes on the slice with the longest one.
        name: name given by the user, or "".
    """

    number: int
    size: float
    unit: str
    diameter: float
    slices: tuple[int, int]
    place: tuple[int, int, int]
    axes: Axes
    name: str = ""


def list_lesions(
    stack: Stack,
    meta: Mapping[str, Any],
    sides: tuple[float, float] = (1.0, 1.0),
    names: Sequence[LesionName] = (),
) -> list[ListedLesion]:
    """Return the lesions of a case, largest first.

    Args:
        stack: masks of the case.
        meta: metadata of the image from `LoadMedicalImage`.
        sides: height and width of a pixel, in millimetres where they are known.
        names: names given by the user.
    """
    found = _Labelled.of(stack, meta)
    if found is None:
        return []
    called = named_lesions(names, found.number)
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
        axes = found.axes(lesion.lesion, at.tolist(), sides)
        more = lesion.diameter, slices, place, axes, called.get(lesion.lesion, "")
        listed.append(ListedLesion(lesion.lesion, lesion.size, lesion.size_unit, *more))
    return listed


def without_lesion(
    stack: Stack, meta: Mapping[str, Any], place: tuple[int, int, int]
) -> dict[int, NDArray[np.bool_]] | None:
    """Return the masks of the affected slices without the lesion at a pixel; None if there is no lesion.

    Args:
        stack: masks of the case.
        meta: metadata of the image from `LoadMedicalImage`.
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


def renamed(
    stack: Stack, meta: Mapping[str, Any], names: Sequence[LesionName], place: tuple[int, int, int], name: str
) -> tuple[LesionName, ...] | None:
    """Return the names after renaming the lesion at a pixel; None if there is no lesion.

    Names of removed lesions are dropped.

    Args:
        stack: masks of the case.
        meta: metadata of the image from `LoadMedicalImage`.
        names: current names.
        place: (slice, row, column).
        name: the new name, "" for none.

    Raises:
        SessionError: the name is in use for another lesion.
    """
    found = _Labelled.of(stack, meta)
    number = 0 if found is None else found.number(*place)
    if found is None or not number:
        return None
    called = named_lesions(names, found.number)
    if name and any(other == name for at, other in called.items() if at != number):
        raise SessionError("Another lesion of this case has that name; choose a different one.")
    kept = [one for one in names if found.number(*one[1:]) not in (0, number)]
    if not name:
        return tuple(kept)
    index = max(stack, key=lambda n: int((found.on_slice(n) == number).sum()))
    row, column = deepest(found.on_slice(index) == number)
    return (*kept, LesionName(name, index, row + found.top, column + found.left))


def bridge_lesions(
    stack: Stack, meta: Mapping[str, Any], places: Sequence[tuple[int, int, int]], sides: tuple[float, float]
) -> dict[int, NDArray[np.bool_]] | None:
    """Return the mask of the slice on which two lesions are closest, with a connecting line of pixels.

    Args:
        stack: masks of the case.
        meta: metadata of the image from `LoadMedicalImage`.
        places: (slice, row, column) of a marked pixel of each lesion.
        sides: height and width of a pixel.

    Returns:
        slice -> (H, W) bool; None if there are not two lesions, or no slice shows both.
    """
    found = _Labelled.of(stack, meta)
    if found is None:
        return None
    numbers = [found.number(*place) for place in places]
    if 0 in numbers or numbers[0] == numbers[1]:
        return None
    best: tuple[float, int, Any] | None = None
    for index in stack:
        if not stack[index][0].any():
            continue
        first, second = (np.argwhere(found.plane(index - found.first) == number) for number in numbers)
        if len(first) and len(second):
            apart, nearest = cKDTree(first * sides).query(second * sides)
            at = int(apart.argmin())
            if best is None or apart[at] < best[0]:
                best = float(apart[at]), index, (first[nearest[at]], second[at])
    if best is None:
        return None
    _, index, ends = best
    way = [(float(row + found.top), float(column + found.left)) for row, column in ends]
    mask = stack[index][0]
    return {index: mask | brushed(way, 0.1, (mask.shape[0], mask.shape[1]))}


class _Labelled(NamedTuple):
    """The labelled bounding box of the masks of a case, for speed in large volumes."""

    labels: NDArray[np.int32]  # (h, w[, d])
    prob: NDArray[np.float32]
    meta: Mapping[str, Any]
    first: int
    top: int
    left: int

    def plane(self, number: int) -> NDArray[np.int32]:
        return self.labels if self.labels.ndim == 2 else self.labels[..., number]

    def on_slice(self, index: int) -> NDArray[np.int32]:
        """Return the numbers within the box on a slice of the case."""
        inside = 0 <= index - self.first < (1 if self.labels.ndim == 2 else self.labels.shape[2])
        return self.plane(index - self.first) if inside else np.zeros((1, 1), np.int32)

    def number(self, index: int, row: int, column: int) -> int:
        """Return the number of the lesion at a pixel of the case, or 0."""
        row, column, index = row - self.top, column - self.left, index - self.first
        height, width = self.labels.shape[:2]
        depth = 1 if self.labels.ndim == 2 else self.labels.shape[2]
        if not (0 <= row < height and 0 <= column < width and 0 <= index < depth):
            return 0
        return int(self.plane(index)[row, column])

    def axes(self, number: int, planes: list[int], sides: tuple[float, float]) -> Axes:
        """Return the axes of a lesion on `planes`, in coordinates of the case."""
        found = [axes_of(self.plane(n) == number, sides, n + self.first) for n in planes]
        longest = max(found, key=lambda one: one.sizes[0])
        long, short = (self._moved(axis) for axis in (longest.long, longest.short))
        return longest._replace(long=long, short=short)

    def _moved(self, axis: Axis) -> Axis:
        (top, left), (bottom, right) = axis
        return (top + self.top, left + self.left), (bottom + self.top, right + self.left)

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
        if is_irregular(meta):  # each slice has its own position
            meta = {**meta, meta_keys.SLICE_AFFINES: matrix(meta[meta_keys.SLICE_AFFINES])[first : last + 1]}
        labels = find_lesions(np.stack(planes, axis=-1), meta)
        return cls(labels, np.stack(probs, axis=-1), meta, first, int(rows[0]), int(columns[0]))
