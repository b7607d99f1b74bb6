"""DICOM frames in space: a single frame is a picture, a series folder or a multi-frame object a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid

from monai_tpseg.transforms.dicom import Dataset, check_image, frame_count, is_image, read_dataset
from monai_tpseg.transforms.dicom_slices import FAULTS, Irregular, read_frames, read_slices
from monai_tpseg.transforms.dicom_split import dicom_files
from monai_tpseg.transforms.dicom_stack import check_stack, has_positions, is_localizer, sorted_slices
from monai_tpseg.transforms.dicom_values import decode, dicom_meta, display_values, intensity_of, physical_values
from monai_tpseg.transforms.encoded import decompress
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.functional_groups import frames_of, promote_groups
from monai_tpseg.transforms.guard import base_name, check_size
from monai_tpseg.transforms.meta import SKIPPED, SOURCE_SHAPE, SPACING, Intensity
from monai_tpseg.transforms.single_frame import as_single
from monai_tpseg.transforms.sources import Array, Source, check_affine, finite
from monai_tpseg.transforms.ultrasound import region_meta

__all__ = ["read_dicom_file", "read_dicom_files", "read_dicom_folder"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_dicom_file(path: Path, irregular: Irregular = "refuse") -> Source:
    """Read one DICOM object.

    Args:
        path: a DICOM file.
        irregular: refuse frames with positions that are no regular grid, or read them one by one.

    Returns:
        A picture (C, H, W) for one frame; a volume (C, x, y, z) for several, z being time for a cine without positions.

    Raises:
        ReadError: with the code of what is wrong.
    """
    source = _read_object(path, irregular)
    source.files = (path,)
    return source


def _read_object(path: Path, irregular: Irregular) -> Source:
    dataset, name = read_dataset(path), base_name(path)
    check_image(dataset, name)
    if frame_count(dataset, name) == 1:
        promote_groups(dataset, name)
        return _picture(dataset, name)
    if "PerFrameFunctionalGroupsSequence" in dataset and has_positions(dataset):
        return _multi_frame(dataset, name, irregular)
    promote_groups(dataset, name)
    return _cine(dataset, name)


def read_dicom_folder(folder: Path, irregular: Irregular = "refuse") -> Source:
    """Read the series that lies in `folder`, in the order of its positions.

    Args:
        folder: a folder with the DICOM files of one series; other files are left out, and so are non-image objects and
            localizers beside slices, which are counted.
        irregular: refuse slices that are no regular grid, or read them one by one.

    Returns:
        A volume (C, x, y, z): x the columns, y the rows, z along the normal. One file is read as that file.

    Raises:
        ReadError: `E_EMPTY`, `E_SERIES_MIXED`, `E_SERIES_DUPLICATE`, `E_SERIES_ECHOES`, `E_SERIES_GAP`,
            `E_SERIES_TILT`, `E_GEOMETRY`, or the code of a file that cannot be read.
    """
    files = dicom_files(folder)
    images = {path: dataset for path in files if is_image(dataset := read_dataset(path))}
    images = {path: d for path, d in images.items() if not is_localizer(d)} or images
    if not images:
        raise ReadError("E_EMPTY", f"{base_name(folder)} holds no DICOM image; name the folder of the series itself.")
    source = _read_series(images, base_name(folder), irregular)
    source.meta[SKIPPED] = len(files) - len(images)
    return source


def read_dicom_files(files: Sequence[Path], irregular: Irregular = "refuse") -> Source:
    """Read exactly these files as one series.

    Args:
        files: DICOM files in any order, e.g. those of a `Stack`; one is read as `read_dicom_file` reads it.
        irregular: see `read_dicom_folder`.

    Raises:
        ReadError: see `read_dicom_folder`; `E_NOT_IMAGE` and `E_NO_PIXELS` as well, as no file is left out.
    """
    return _read_series({path: read_dataset(path) for path in files}, base_name(files[0].parent), irregular)


def _read_series(images: Mapping[Path, Dataset], name: str, irregular: Irregular) -> Source:
    if len(images) == 1:
        return read_dicom_file(next(iter(images)), irregular)
    for path, dataset in images.items():
        check_image(dataset, base_name(path))
    paths = {id(dataset): path for path, dataset in images.items()}
    datasets = list(images.values())
    try:
        check_stack(datasets, name)
    except ReadError as error:
        if error.code not in FAULTS or irregular == "refuse":
            raise
        _check_alike(datasets, name)
        datasets = sorted_slices(datasets)
        source = read_slices(datasets, FAULTS[error.code], name)
    else:
        _check_alike(datasets, name)
        source = _series(datasets, name)
        assert source.affine is not None
        datasets = sorted_slices(datasets, _LPS_TO_RAS[:3, :3] @ source.affine[:3, 2])
    source.files = tuple(paths[id(dataset)] for dataset in datasets)
    return source


def _picture(dataset: Dataset, name: object) -> Source:
    intensity, meta = intensity_of(dataset), dicom_meta(dataset)
    values = decode(dataset, name)[0]
    array = display_values(values, dataset) if intensity == "display" else physical_values(values, dataset)
    array, extra = finite(array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0), name)
    meta |= extra
    spacing = dataset.get("PixelSpacing")
    if spacing is not None and len(spacing) == 2 and min(map(float, spacing)) > 0:
        meta[SPACING] = np.array([float(edge) for edge in spacing])
    return Source(array, intensity, meta=meta | region_meta(dataset))


def _cine(dataset: Dataset, name: object) -> Source:
    """Frames without positions: x columns, y rows, z time; 1 unit a pixel, seen as stored."""
    intensity, meta = intensity_of(dataset), dicom_meta(dataset)
    frames = decode(dataset, name)  # (F, H, W[, 3])
    array = display_values(frames, dataset) if intensity == "display" else physical_values(frames, dataset)
    affine = _LPS_TO_RAS @ np.eye(4)[:, [2, 1, 0, 3]]
    source = _volume(array, affine, intensity, meta, name)
    source.spaced = source.stacked = False
    source.meta |= {key: value for key, value in region_meta(dataset).items() if key != SPACING}
    return source


def _multi_frame(dataset: Dataset, name: object, irregular: Irregular) -> Source:
    frames = frames_of(dataset, name)
    try:
        check_stack(frames, name)
    except ReadError as error:
        if error.code not in FAULTS or irregular == "refuse":
            raise
        return read_frames(dataset, frames, FAULTS[error.code], name)
    meta = dicom_meta(dataset)
    try:
        decompress([dataset], frame_count(dataset, name), name)
        image = highdicom.Image.from_dataset(dataset, copy=False)
        volume = image.get_volume(dtype=np.float64, **_raw(dataset))
    except ReadError:
        raise
    except Exception as error:  # bare errors of every kind
        decode(dataset, name)  # pixels that cannot be decoded are named as such
        raise ReadError("E_GEOMETRY", f"{name} has frames that do not form one regular stack; split it.") from error
    return _from_highdicom(volume, dataset, meta, name)


def _check_alike(datasets: list[Dataset], name: object) -> None:
    check_size((int(datasets[0].Rows), int(datasets[0].Columns)), len(datasets), name)
    modes = {(d.get("PhotometricInterpretation"), intensity_of(d)) for d in datasets}
    if len(modes) > 1 or any(frame_count(d, name) > 1 for d in datasets):
        raise ReadError("E_SERIES_MIXED", f"{name} holds objects of several kinds; put each in a folder of its own.")


def _series(datasets: list[Dataset], name: object) -> Source:
    meta = dicom_meta(datasets[0])
    frame_of_reference = datasets[0].get("FrameOfReferenceUID") or generate_uid()
    for dataset in datasets:
        if not dataset.get("FrameOfReferenceUID"):  # lost in anonymisation; the positions are compared above
            dataset.FrameOfReferenceUID = frame_of_reference
        dataset.ImageOrientationPatient = datasets[0].ImageOrientationPatient  # equal to 3 digits
        dataset.PixelSpacing = datasets[0].PixelSpacing
    try:
        decompress(datasets, 1, name)
        volume = highdicom.get_volume_from_series(
            [as_single(one) for one in datasets], dtype=np.float64, **_raw(datasets[0])
        )
    except ReadError:
        raise
    except Exception as error:  # bare errors of every kind
        for dataset in datasets:
            decode(dataset, name)
        raise ReadError("E_GEOMETRY", f"{name} is not one regular stack of slices; give them one by one.") from error
    return _from_highdicom(volume, datasets[0], meta, name)


def _raw(dataset: Dataset) -> dict[str, Any]:
    """The stored values, physical ones with their rescale, and nothing else: no window, real-world map or inversion."""
    return {
        "apply_modality_transform": None if intensity_of(dataset) == "physical" else False,
        "apply_real_world_transform": False,
        "apply_voi_transform": False,
        "apply_presentation_lut": False,
        "apply_icc_profile": False,
    }


def _from_highdicom(volume: Any, dataset: Dataset, meta: dict[str, Any], name: object) -> Source:
    intensity = intensity_of(dataset)
    array: NDArray[Any] = volume.array
    values = display_values(array, dataset) if intensity == "display" else array.astype(np.float32)
    return _volume(values, _LPS_TO_RAS @ np.asarray(volume.affine), intensity, meta, name)


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
