"""Whether the slices of a DICOM series stack into one regular grid, and what is wrong where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.transforms.dicom import Dataset
from monai_tpseg.transforms.dicom_repeats import KINDS, marks_of, number_places, tell_apart
from monai_tpseg.transforms.errors import ReadError

__all__ = ["check_stack", "has_positions", "is_localizer", "label_orientations", "sorted_slices"]

_GAP = 0.01  # share of the slice distance that a distance may differ by
_PERPENDICULAR = 1e-3  # 1 - cosine between the stacking direction and the normal of the slices
_SAME_DIRECTION = 2e-3  # of a component of two unit vectors


def has_positions(dataset: Dataset) -> bool:
    """Say whether the frames of `dataset` have a place in the patient."""
    if "PerFrameFunctionalGroupsSequence" in dataset:
        first = dataset.PerFrameFunctionalGroupsSequence[0]
        return "PlanePositionSequence" in first
    position, orientation = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    return position is not None and orientation is not None and len(position) == 3 and len(orientation) == 6


def is_localizer(dataset: Dataset) -> bool:
    """Say whether `dataset` is a scout that only shows where the slices of its series lie (ImageType, value 3)."""
    kinds = dataset.get("ImageType") or ()
    return not isinstance(kinds, str) and "LOCALIZER" in [str(kind).upper() for kind in kinds]


def label_orientations(orientations: Sequence[Sequence[float]]) -> list[int]:
    """Return a number for each of (N, 6) direction cosines, the same for those that are equal up to rounding."""
    kinds: list[NDArray[np.float64]] = []
    labels = []
    for orientation in orientations:
        one = np.asarray(orientation, dtype=np.float64)
        like = (n for n, kind in enumerate(kinds) if np.abs(kind - one).max() < _SAME_DIRECTION)
        label = next(like, len(kinds))
        if label == len(kinds):
            kinds.append(one)
        labels.append(label)
    return labels


def check_stack(datasets: list[Dataset], name: object) -> None:
    """Refuse slices that do not stack into one regular grid.

    Args:
        datasets: single-frame objects, in any order.
        name: what the message calls them.

    Raises:
        ReadError: `E_SERIES_MIXED`, `E_GEOMETRY`, `E_SERIES_DUPLICATE`, `E_SERIES_ECHOES`, `E_SERIES_TILT` or
            `E_SERIES_GAP`.
    """
    if len({str(d.get("SeriesInstanceUID")) for d in datasets}) > 1:
        series = len({str(d.get("SeriesInstanceUID")) for d in datasets})
        raise ReadError("E_SERIES_MIXED", f"{name} holds {series} series; put each one in a folder of its own.")
    if not all(has_positions(d) and "PixelSpacing" in d for d in datasets):
        raise ReadError(
            "E_GEOMETRY", f"{name} has slices without position or pixel spacing; give its files one by one."
        )
    for what, values in (
        ("sizes", {(int(d.Rows), int(d.Columns)) for d in datasets}),
        ("pixel spacings", {tuple(np.round(np.asarray(d.PixelSpacing, float), 4)) for d in datasets}),
        ("orientations", set(label_orientations([d.ImageOrientationPatient for d in datasets]))),
    ):
        if len(values) > 1:
            raise ReadError("E_SERIES_MIXED", f"{name} holds slices of {len(values)} {what}; split it (localizer?).")
    _check_positions(datasets, name)


def sorted_slices(datasets: list[Dataset], direction: NDArray[np.float64] | None = None) -> list[Dataset]:
    """Return slices by their positions (LPS) along `direction`, along their normal by default."""
    along = _normal(datasets[0]) if direction is None else direction
    return sorted(datasets, key=lambda d: float(np.dot(np.asarray(d.ImagePositionPatient, dtype=np.float64), along)))


def _normal(dataset: Dataset) -> NDArray[np.float64]:
    across = np.asarray(dataset.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    return np.cross(across[0], across[1])


def _check_positions(datasets: list[Dataset], name: object) -> None:
    normal = _normal(datasets[0])
    positions = np.array([d.ImagePositionPatient for d in datasets], dtype=np.float64)
    _check_repeats(datasets, positions @ normal, name)
    positions = positions[np.argsort(positions @ normal)]
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    cosine = along / np.linalg.norm(steps, axis=1)
    if (1 - np.abs(cosine)).max() > _PERPENDICULAR:
        tilt = float(np.degrees(np.arccos(np.clip(cosine.min(), -1, 1))))
        raise ReadError("E_SERIES_TILT", f"{name} is tilted by {tilt:.1f} degrees; give its slices one by one.")
    if np.abs(along - np.median(along)).max() > _GAP * np.median(along):
        raise ReadError(
            "E_SERIES_GAP",
            f"{name} has slice distances from {along.min():.2f} to {along.max():.2f} mm; give its slices one by one.",
        )


def _check_repeats(datasets: list[Dataset], places: NDArray[np.float64], name: object) -> None:
    numbers = number_places(places)
    repeated = len(numbers) - len(set(numbers))
    if not repeated:
        return
    told = tell_apart(numbers, [marks_of(dataset) for dataset in datasets])
    if told is None:
        raise ReadError("E_SERIES_DUPLICATE", f"{name} has {repeated} repeated positions; read its stacks one by one.")
    keyword, groups = told
    raise ReadError(
        "E_SERIES_ECHOES",
        f"{name} holds {len(groups)} stacks at the same positions, each one {KINDS[keyword]} ({keyword}); "
        "read them one by one.",
    )
