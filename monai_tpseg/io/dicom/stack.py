"""Checks that the slices of a DICOM series form one regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.attributes import directions, frame_of_reference, pixel_spacing, position
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.dicom.repeats import KINDS, distinguishing_attribute, marks_of, number_places
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.rounding import DEGREES, MILLIMETRES

__all__ = [
    "Grid",
    "check_stack",
    "grid_of",
    "has_positions",
    "is_localizer",
    "label_orientations",
    "same_spacing",
    "slice_order",
]

_EXACT_MM = 1e-6  # smaller deviations are not fitted
_OF_STEP = 0.15  # as a share of the slice distance: a missing slice shifts others by at least 0.3


class Grid(NamedTuple):
    """Slices that lie on a regular grid up to rounding.

    Attributes:
        order: indices of the slices, sorted along their normal.
        affine: (4, 4) index (column, row, slice) -> LPS millimetres.
    """

    order: list[int]
    affine: NDArray[np.float64]


def has_positions(dataset: Dataset) -> bool:
    """Return whether the frames of `dataset` have positions, usable or not."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (*groups[:1], *shared[:1]):
        if group.get("PlanePositionSequence"):
            return True
    place, across = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    return place is not None and across is not None and len(place) == 3 and len(across) == 6


def is_localizer(dataset: Dataset) -> bool:
    """Return whether `dataset` is a localizer of its series (ImageType, value 3)."""
    kinds = dataset.get("ImageType") or ()
    return "LOCALIZER" in [str(kind).strip().upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def label_orientations(orientations: Sequence[Sequence[float]]) -> list[int]:
    """Return a number for each of (N, 6) direction cosines, the same for cosines that are equal up to rounding."""
    kinds: list[NDArray[np.float64]] = []
    labels = []
    for orientation in orientations:
        one = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
        like = (n for n, kind in enumerate(kinds) if _apart(kind, one) <= DEGREES)
        label = next(like, len(kinds))
        if label == len(kinds):
            kinds.append(one)
        labels.append(label)
    return labels


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The larger of the angles between rows and between columns of two slices, in degrees."""
    return float(np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(one - other, axis=1).max() / 2, 0, 1))))


def check_stack(headers: Sequence[Dataset], name: object) -> None:
    """Reject slices of different kinds or without positions.

    Args:
        headers: headers of single slices, see `frames_of`, in any order.
        name: name used in error messages.

    Raises:
        ReadError: `E_SERIES_MIXED`, `E_GEOMETRY`, `E_SERIES_DUPLICATE` or `E_SERIES_ECHOES`.
    """
    if len({str(d.get("SeriesInstanceUID")) for d in headers}) > 1:
        series = len({str(d.get("SeriesInstanceUID")) for d in headers})
        raise ReadError("E_SERIES_MIXED", f"{name} holds {series} series; put each in a separate folder.")
    across = [directions(d) for d in headers]
    spacings = [pixel_spacing(d) for d in headers]
    if any(position(d) is None for d in headers) or any(found is None for found in (*across, *spacings)):
        raise ReadError(
            "E_GEOMETRY",
            f"{name} has slices without a usable position, direction or pixel spacing; give its files one by one.",
        )
    sizes = [(int(d.Rows), int(d.Columns)) for d in headers]
    for what, kinds in (
        ("sizes", len(set(sizes))),
        ("pixel spacings", _different_spacings(spacings, sizes[0])),
        (
            "orientations",
            len(set(label_orientations([found.ravel().tolist() for found in across if found is not None]))),
        ),
        ("frames of reference", len({frame_of_reference(d) for d in headers} - {""})),
    ):
        if kinds > 1:
            raise ReadError("E_SERIES_MIXED", f"{name} holds slices of {kinds} {what}; split it (localizer?).")
    _check_repeats(headers, _positions(headers) @ _normal(headers), name)


def grid_of(headers: Sequence[Dataset], name: object) -> Grid:
    """Return the regular grid of slices, up to `rounding.MILLIMETRES` and `rounding.DEGREES`.

    The grid is fitted to all positions. If the stack is tilted by more than the rounding of positions explains, but
    not by more than that of directions, the positions are kept and the directions are rotated.

    Args:
        headers: at least two headers that passed `check_stack`.
        name: name used in error messages.

    Raises:
        ReadError: `E_SERIES_TILT` or `E_SERIES_GAP`.
    """
    across, order = _across(headers), slice_order(headers)
    normal = np.cross(across[0], across[1])
    positions = _positions(headers)[order]
    steps = np.diff(positions @ normal)
    numbers = np.arange(len(positions))
    (step, origin), off = _line(numbers, positions)
    beside, along = off - np.outer(off @ normal, normal), np.abs(off @ normal)
    leaning = step - (step @ normal) * normal
    if np.abs(np.outer(numbers - numbers.mean(), leaning)).max() > MILLIMETRES or np.abs(beside).max() > MILLIMETRES:
        tilt = float(np.degrees(np.arctan2(np.linalg.norm(leaning), step @ normal)))
        if tilt > DEGREES or np.linalg.norm(beside, axis=1).max() > MILLIMETRES:
            raise ReadError("E_SERIES_TILT", f"{name} is tilted by {tilt:.1f} degrees; give its slices one by one.")
        across = _turned(across, step / np.linalg.norm(step))
    else:
        step, origin = step - leaning, origin + numbers.mean() * leaning
    if along.max() > min(MILLIMETRES, _OF_STEP * float(np.median(steps))):
        raise ReadError(
            "E_SERIES_GAP",
            f"{name} has slice distances from {steps.min():.2f} to {steps.max():.2f} mm; give its slices one by one.",
        )
    row_mm, column_mm = pixel_spacing(headers[0]) or (np.nan, np.nan)
    affine = np.eye(4)
    affine[:3] = np.column_stack([across[0] * column_mm, across[1] * row_mm, step, origin])
    return Grid(order, affine)


def slice_order(headers: Sequence[Dataset]) -> list[int]:
    """Return the indices of slices sorted by position along their normal."""
    return [int(n) for n in np.argsort(_positions(headers) @ _normal(headers), kind="stable")]


def _positions(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    return np.array([position(d) for d in headers], dtype=np.float64)


def _across(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    """(2, 3) common directions of the slices: those of the first if all are equal, otherwise their mean."""
    found = np.array([directions(d) for d in headers], dtype=np.float64)
    return found[0] if (found == found[0]).all() else _nearest(found.mean(axis=0))


def _normal(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    across = _across(headers)
    return np.cross(across[0], across[1])


def _nearest(across: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, vt = np.linalg.svd(across, full_matrices=False)
    nearest: NDArray[np.float64] = u @ vt
    return nearest


def _turned(across: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The directions nearest to `across` that are perpendicular to `normal`."""
    return _nearest(across - np.outer(across @ normal, normal))


_Vector = NDArray[np.float64]


def _line(numbers: NDArray[np.int_], positions: _Vector) -> tuple[tuple[_Vector, _Vector], _Vector]:
    """Fit step and origin of evenly spaced positions; the deviation of each position is returned too."""
    step = (positions[-1] - positions[0]) / numbers[-1]
    off = positions - positions[0] - np.outer(numbers, step)
    if np.abs(off).max() < _EXACT_MM:
        return (step, positions[0]), off
    step, origin = np.polyfit(numbers, positions, 1)
    return (step, origin), positions - origin - np.outer(numbers, step)


def _different_spacings(spacings: Sequence[tuple[float, float] | None], size: tuple[int, int]) -> int:
    """The number of pixel spacings; two are equal if the far edges of their slices coincide up to rounding."""
    kinds: list[tuple[float, float]] = []
    for one in spacings:
        if one is not None and not any(same_spacing(one, kind, size) for kind in kinds):
            kinds.append(one)
    return len(kinds)


def same_spacing(one: tuple[float, float], other: tuple[float, float], size: tuple[int, int]) -> bool:
    """Return whether slices of `size` (rows, columns) with these pixel spacings have the same extent up to rounding."""
    return all(abs(a - b) * n <= MILLIMETRES for a, b, n in zip(one, other, size, strict=True))


def _check_repeats(datasets: Sequence[Dataset], places: NDArray[np.float64], name: object) -> None:
    numbers = number_places(places)
    repeated = len(numbers) - len(set(numbers))
    if not repeated:
        return
    told = distinguishing_attribute(numbers, [marks_of(dataset) for dataset in datasets])
    if told is None:
        raise ReadError("E_SERIES_DUPLICATE", f"{name} has {repeated} repeated positions; read its stacks one by one.")
    keyword, groups = told
    raise ReadError(
        "E_SERIES_ECHOES",
        f"{name} holds {len(groups)} stacks at the same positions, each one {KINDS[keyword]} ({keyword}); "
        "read them one by one.",
    )
