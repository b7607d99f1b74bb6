"""DICOM frames in space: a single frame is a picture, a series folder or a multi-frame object a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from monai_tpseg.transforms.dicom import (
    Dataset,
    check_image,
    decode,
    dicom_meta,
    display_values,
    frame_count,
    intensity_of,
    is_dicom,
    is_image,
    physical_values,
    read_dataset,
)
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.meta import SKIPPED, SOURCE_SHAPE, SPACING, Intensity
from monai_tpseg.transforms.sources import Array, Source, check_affine, finite

__all__ = ["check_stack", "read_dicom_file", "read_dicom_folder"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_POSITION = 1e-3  # mm along the stacking direction
_GAP = 0.01  # share of the slice distance that a distance may differ by
_PERPENDICULAR = 1e-3  # 1 - cosine between the stacking direction and the normal of the slices


def read_dicom_file(path: Path) -> Source:
    """Read one DICOM object.

    Args:
        path: a DICOM file.

    Returns:
        A picture (C, H, W) for one frame; a volume (C, x, y, z) for several, z being time for a cine without positions.

    Raises:
        ReadError: with the code of what is wrong.
    """
    dataset = read_dataset(path)
    check_image(dataset, path)
    if frame_count(dataset, path) == 1:
        return _picture(dataset, path)
    if "PerFrameFunctionalGroupsSequence" in dataset and _has_positions(dataset):
        return _multi_frame(dataset, path)
    return _cine(dataset, path)


def read_dicom_folder(folder: Path) -> Source:
    """Read the series that lies in `folder`, in the order of its positions.

    Args:
        folder: a folder with the DICOM files of one series; other files and non-image objects are left out and counted.

    Returns:
        A volume (C, x, y, z): x the columns, y the rows, z along the normal. One file is read as that file.

    Raises:
        ReadError: `E_EMPTY`, `E_SERIES_MIXED`, `E_SERIES_DUPLICATE`, `E_SERIES_GAP`, `E_SERIES_TILT`, `E_GEOMETRY`, or
            the code of a file that cannot be read.
    """
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "." and is_dicom(path)]
    images = {path: dataset for path in files if is_image(dataset := read_dataset(path))}
    if not images:
        raise ReadError("E_EMPTY", f"{folder} holds no DICOM image; name the folder of the series itself.")
    if len(images) == 1:
        source = read_dicom_file(next(iter(images)))
    else:
        for path, dataset in images.items():
            check_image(dataset, path)
        source = _series(list(images.values()), folder)
    source.meta[SKIPPED] = len(files) - len(images)
    return source


def check_stack(datasets: list[Dataset], name: object) -> None:
    """Refuse slices that do not stack into one regular grid.

    Args:
        datasets: single-frame objects, in any order.
        name: what the message calls them.

    Raises:
        ReadError: `E_SERIES_MIXED`, `E_GEOMETRY`, `E_SERIES_DUPLICATE`, `E_SERIES_TILT` or `E_SERIES_GAP`.
    """
    if len({str(d.get("SeriesInstanceUID")) for d in datasets}) > 1:
        series = len({str(d.get("SeriesInstanceUID")) for d in datasets})
        raise ReadError("E_SERIES_MIXED", f"{name} holds {series} series; put each one in a folder of its own.")
    if not all(_has_positions(d) and "PixelSpacing" in d for d in datasets):
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
        raise ReadError(
            "E_SERIES_DUPLICATE", f"{name} has {repeated} repeated positions (echoes, phases?); split it into folders."
        )
    cosine = along / np.linalg.norm(steps, axis=1)
    if (1 - np.abs(cosine)).max() > _PERPENDICULAR:
        tilt = float(np.degrees(np.arccos(np.clip(cosine.min(), -1, 1))))
        raise ReadError("E_SERIES_TILT", f"{name} is tilted by {tilt:.1f} degrees; give its slices one by one.")
    if np.abs(along - np.median(along)).max() > _GAP * np.median(along):
        raise ReadError(
            "E_SERIES_GAP",
            f"{name} has slice distances from {along.min():.2f} to {along.max():.2f} mm; give its slices one by one.",
        )


def _picture(dataset: Dataset, name: object) -> Source:
    intensity = intensity_of(dataset)
    values = decode(dataset, name)[0]
    array = display_values(values, dataset) if intensity == "display" else physical_values(values, dataset)
    array, extra = finite(array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0), name)
    meta = dicom_meta(dataset) | extra
    spacing = dataset.get("PixelSpacing")
    if spacing is not None and len(spacing) == 2 and min(map(float, spacing)) > 0:
        meta[SPACING] = np.array([float(edge) for edge in spacing])
    return Source(array, intensity, meta=meta)


def _cine(dataset: Dataset, name: object) -> Source:
    """Frames without positions: x columns, y rows, z time; 1 unit a pixel, seen as stored."""
    intensity = intensity_of(dataset)
    frames = decode(dataset, name)  # (F, H, W[, 3])
    array = display_values(frames, dataset) if intensity == "display" else physical_values(frames, dataset)
    affine = _LPS_TO_RAS @ np.eye(4)[:, [2, 1, 0, 3]]
    source = _volume(array, affine, intensity, dicom_meta(dataset), name)
    source.spaced = False
    return source


def _multi_frame(dataset: Dataset, name: object) -> Source:
    try:
        image = highdicom.Image.from_dataset(dataset, copy=False)
        volume = image.get_volume(dtype=np.float64, **_raw(dataset))
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RuntimeError) as error:
        decode(dataset, name)  # pixels that cannot be decoded are named as such
        raise ReadError("E_GEOMETRY", f"{name} has frames that do not form one regular stack; split it.") from error
    return _from_highdicom(volume, dataset, name)


def _series(datasets: list[Dataset], name: object) -> Source:
    check_stack(datasets, name)
    modes = {(d.get("PhotometricInterpretation"), intensity_of(d)) for d in datasets}
    if len(modes) > 1 or any(frame_count(d, name) > 1 for d in datasets):
        raise ReadError("E_SERIES_MIXED", f"{name} holds objects of several kinds; put each in a folder of its own.")
    frame_of_reference = datasets[0].get("FrameOfReferenceUID") or generate_uid()
    for dataset in datasets:
        if not dataset.get("FrameOfReferenceUID"):  # lost in anonymisation; the positions are compared above
            dataset.FrameOfReferenceUID = frame_of_reference
        dataset.ImageOrientationPatient = datasets[0].ImageOrientationPatient  # equal to 3 digits
        dataset.PixelSpacing = datasets[0].PixelSpacing
    try:
        volume = highdicom.get_volume_from_series(datasets, dtype=np.float64, **_raw(datasets[0]))
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RuntimeError) as error:
        for dataset in datasets:
            decode(dataset, name)
        raise ReadError("E_GEOMETRY", f"{name} is not one regular stack of slices; give them one by one.") from error
    return _from_highdicom(volume, datasets[0], name)


def _raw(dataset: Dataset) -> dict[str, Any]:
    """The stored values, physical ones with their rescale, and nothing else: no window, real-world map or inversion."""
    return {
        "apply_modality_transform": None if intensity_of(dataset) == "physical" else False,
        "apply_real_world_transform": False,
        "apply_voi_transform": False,
        "apply_presentation_lut": False,
        "apply_icc_profile": False,
    }


def _from_highdicom(volume: Any, dataset: Dataset, name: object) -> Source:
    intensity = intensity_of(dataset)
    array: NDArray[Any] = volume.array
    values = display_values(array, dataset) if intensity == "display" else array.astype(np.float32)
    return _volume(values, _LPS_TO_RAS @ np.asarray(volume.affine), intensity, dicom_meta(dataset), name)


def _volume(
    frames: Array, affine: NDArray[np.float64], intensity: Intensity, meta: dict[str, Any], name: object
) -> Source:
    """(F, H, W[, 3]) with an affine of (frame, row, column) -> (C, x, y, z), z along the normal as in ITK."""
    placed = check_affine(affine[:, [2, 1, 0, 3]], name)
    if np.linalg.det(placed[:3, :3]) < 0:
        placed[:, 3] += (len(frames) - 1) * placed[:, 2]
        placed[:, 2] *= -1
        frames = frames[::-1]
    stacked = frames[None] if frames.ndim == 3 else np.moveaxis(frames, -1, 0)
    array, extra = finite(np.ascontiguousarray(stacked.transpose(0, 3, 2, 1)), name)
    shape = np.array(array.shape[1:])
    return Source(array, intensity, placed, stack_axis=2, meta=meta | extra | {SOURCE_SHAPE: shape})


def _has_positions(dataset: Dataset) -> bool:
    if "PerFrameFunctionalGroupsSequence" in dataset:
        first = dataset.PerFrameFunctionalGroupsSequence[0]
        return "PlanePositionSequence" in first
    position, orientation = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    return position is not None and orientation is not None and len(position) == 3 and len(orientation) == 6
