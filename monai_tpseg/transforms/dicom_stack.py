"""Whether the slices of a DICOM series stack into one regular grid, and what is wrong where they do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.transforms.dicom import Dataset
from monai_tpseg.transforms.errors import ReadError

__all__ = ["check_stack", "has_positions", "is_localizer"]

_SAME_POSITION = 1e-3  # mm along the stacking direction
_GAP = 0.01  # share of the slice distance that a distance may differ by
_PERPENDICULAR = 1e-3  # 1 - cosine between the stacking direction and the normal of the slices
_KINDS = {  # what tells slices at one position apart -> how the message calls it
    "EchoTime": "echoes",
    "EchoNumbers": "echoes",
    "TemporalPositionIdentifier": "phases",
    "TriggerTime": "phases",
    "DiffusionBValue": "b-values",
    "AcquisitionNumber": "acquisitions",
    "ContentTime": "acquisitions",
    "ImageType": "image types",
}


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
        ("orientations", {tuple(np.round(np.asarray(d.ImageOrientationPatient, float), 3)) for d in datasets}),
    ):
        if len(values) > 1:
            raise ReadError("E_SERIES_MIXED", f"{name} holds slices of {len(values)} {what}; split it (localizer?).")
    _check_positions(datasets, name)


def _check_positions(datasets: list[Dataset], name: object) -> None:
    across = np.asarray(datasets[0].ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    normal = np.cross(across[0], across[1])
    positions = np.array([d.ImagePositionPatient for d in datasets], dtype=np.float64)
    positions = positions[np.argsort(positions @ normal)]
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    repeated = int((along < _SAME_POSITION).sum())
    if repeated:
        _check_echoes(datasets, normal, name)
        raise ReadError("E_SERIES_DUPLICATE", f"{name} has {repeated} repeated positions; remove the copies.")
    cosine = along / np.linalg.norm(steps, axis=1)
    if (1 - np.abs(cosine)).max() > _PERPENDICULAR:
        tilt = float(np.degrees(np.arccos(np.clip(cosine.min(), -1, 1))))
        raise ReadError("E_SERIES_TILT", f"{name} is tilted by {tilt:.1f} degrees; give its slices one by one.")
    if np.abs(along - np.median(along)).max() > _GAP * np.median(along):
        raise ReadError(
            "E_SERIES_GAP",
            f"{name} has slice distances from {along.min():.2f} to {along.max():.2f} mm; give its slices one by one.",
        )


def _check_echoes(datasets: list[Dataset], normal: NDArray[np.float64], name: object) -> None:
    """Refuse slices that fall into groups, by one attribute, which each have a position only once."""
    places = [round(float(np.dot(np.asarray(d.ImagePositionPatient, float), normal)), 2) for d in datasets]
    for keyword, what in _KINDS.items():
        groups: dict[str, list[float]] = {}
        for dataset, place in zip(datasets, places, strict=True):
            groups.setdefault(str(dataset.get(keyword)), []).append(place)
        if len(groups) > 1 and all(len(set(group)) == len(group) for group in groups.values()):
            raise ReadError(
                "E_SERIES_ECHOES",
                f"{name} holds {len(groups)} {what} ({keyword}) at the same positions; give each a folder of its own.",
            )
