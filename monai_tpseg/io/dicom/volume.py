"""DICOM images: a single frame becomes a picture, a series folder or a multi-frame object a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.attributes import other_unit, photometric, pixel_spacing, scales_differ
from monai_tpseg.io.dicom.copies import first_of_each, identity_of, pixel_digest
from monai_tpseg.io.dicom.functional_groups import frames_of
from monai_tpseg.io.dicom.image_check import check_image, frame_count, is_image
from monai_tpseg.io.dicom.object import Dataset, open_dicom, read_dataset
from monai_tpseg.io.dicom.slices import FAULTS, Fault, Irregular, slice_places
from monai_tpseg.io.dicom.split import dicom_files
from monai_tpseg.io.dicom.stack import check_stack, grid_of, has_positions, is_localizer, slice_order
from monai_tpseg.io.dicom.ultrasound import region_meta
from monai_tpseg.io.dicom.values import common_intensity, dicom_meta, intensity_of, is_picture, read_values
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.loaded import Array, Source, check_affine
from monai_tpseg.io.meta_keys import INVERTED, IRREGULAR, SCALE_DOUBTFUL, SKIPPED, SOURCE_SHAPE, SPACING, Intensity
from monai_tpseg.io.misnamed import check_content
from monai_tpseg.io.no_data import fill_no_data
from monai_tpseg.io.orientation import LPS_TO_RAS
from monai_tpseg.io.safety import base_name, check_size

__all__ = ["read_dicom_file", "read_dicom_files", "read_dicom_folder"]


def read_dicom_file(path: Path, irregular: Irregular = "refuse") -> Source:
    """Read one DICOM object.

    Args:
        path: a DICOM file.
        irregular: whether to reject frames that do not form a regular grid, or to read them one by one.

    Returns:
        A picture (C, H, W) for one frame; a volume (C, x, y, z) for several, where z is time for a cine without
        positions.

    Raises:
        ReadError: any code.
    """
    source = _read_object(path, irregular)
    source.files = (path,)
    return source


def _read_object(path: Path, irregular: Irregular) -> Source:
    dataset, name = read_dataset(path), base_name(path)
    check_image(dataset, name)
    headers = frames_of(dataset, name)
    if len(headers) == 1:
        return _picture(dataset, headers, name)
    if headers[0] is not dataset and has_positions(dataset):
        plan = _planned(headers, irregular, name)
        frames = read_values([dataset], [headers], name)
        if plan.order != list(range(len(headers))):
            frames = frames[plan.order]
        return _placed(plan, frames, [headers[n] for n in plan.order], dataset, name)
    return _cine(dataset, headers, name)


def read_dicom_folder(folder: Path, irregular: Irregular = "refuse") -> Source:
    """Read the series in `folder`, sorted by position.

    Args:
        folder: folder with the DICOM files of one series; other files are left out. Non-image objects, localizers
            beside slices, and copies are left out and counted.
        irregular: whether to reject slices that do not form a regular grid, or to read them one by one.

    Returns:
        A volume (C, x, y, z): x the columns, y the rows, z along the normal. A single file is read by
        `read_dicom_file`.

    Raises:
        ReadError: `E_EMPTY`, `E_SERIES_MIXED`, `E_SERIES_DUPLICATE`, `E_SERIES_ECHOES`, `E_SERIES_GAP`,
            `E_SERIES_TILT`, `E_GEOMETRY`, or the code of a file that cannot be read.
    """
    files = dicom_files(folder)
    images = {path: dataset for path in files if is_image(dataset := _dataset(path))}
    images = _without_copies({path: d for path, d in images.items() if not is_localizer(d)} or images)
    if not images:
        raise ReadError(
            "E_EMPTY", f"{base_name(folder)} contains no DICOM image; give the folder of the series itself."
        )
    source = _read_series(images, base_name(folder), irregular)
    source.meta[SKIPPED] = len(files) - len(images)
    return source


def _dataset(path: Path) -> Dataset:
    dataset = open_dicom(path)
    if dataset is None:  # a lost slice
        check_content(path, "dicom")
        raise ReadError("E_DECODE", f"{base_name(path)} is named like a slice, but damaged; copy or export it again.")
    return dataset


def _without_copies(images: Mapping[Path, Dataset]) -> dict[Path, Dataset]:
    """Remove copies of objects, as `find_stacks` does."""
    known = [(path, identity_of(dataset)) for path, dataset in images.items()]
    kept, _ = first_of_each(
        known, lambda one: one, lambda one, other: pixel_digest(images[one[0]]) == pixel_digest(images[other[0]])
    )
    return {path: images[path] for path, _ in kept}


def read_dicom_files(files: Sequence[Path], irregular: Irregular = "refuse") -> Source:
    """Read exactly these files as one series.

    Args:
        files: DICOM files in any order, e.g. those of a `Stack`; a single file is read by `read_dicom_file`.
        irregular: see `read_dicom_folder`.

    Raises:
        ReadError: see `read_dicom_folder`; also `E_NOT_IMAGE` and `E_NO_PIXELS`, since no file is left out.
    """
    return _read_series({path: read_dataset(path) for path in files}, base_name(files[0].parent), irregular)


def _read_series(images: Mapping[Path, Dataset], name: str, irregular: Irregular) -> Source:
    if len(images) == 1:
        return read_dicom_file(next(iter(images)), irregular)
    for path, dataset in images.items():
        check_image(dataset, base_name(path))
    headers = [frames_of(dataset, base_name(path))[0] for path, dataset in images.items()]
    plan = _planned(headers, irregular, name)
    paths, datasets = ([list(part)[n] for n in plan.order] for part in (images, images.values()))
    headers = [headers[n] for n in plan.order]
    _check_alike(datasets, headers, name)
    source = _placed(plan, read_values(datasets, [[header] for header in headers], name), headers, datasets[0], name)
    source.files = tuple(paths)
    return source


def _check_alike(datasets: list[Dataset], headers: list[Dataset], name: object) -> None:
    check_size((int(datasets[0].Rows), int(datasets[0].Columns)), len(datasets), name)
    modes = {(photometric(d), dicom_meta(d)[INVERTED], is_picture(h)) for d, h in zip(datasets, headers, strict=True)}
    if len(modes) > 1 or any(frame_count(d, name) > 1 for d in datasets):
        raise ReadError("E_SERIES_MIXED", f"{name} contains objects of several kinds; put each in a separate folder.")


class _Plan(NamedTuple):
    """Arrangement of slices: on a grid, or each with its own position."""

    order: list[int]
    affine: NDArray[np.float64] | None  # LPS
    fault: Fault | None = None


def _planned(headers: Sequence[Dataset], irregular: Irregular, name: object) -> _Plan:
    check_stack(headers, name)
    try:
        return _Plan(*grid_of(headers, name))
    except ReadError as error:
        if error.code not in FAULTS or irregular == "refuse":
            raise
        return _Plan(slice_order(headers), None, FAULTS[error.code])


def _placed(plan: _Plan, frames: Array, headers: Sequence[Dataset], dataset: Dataset, name: object) -> Source:
    """(z, y, x[, 3]) and the header of each slice, both in the order of the plan."""
    if plan.affine is not None:
        return _volume(frames, LPS_TO_RAS @ plan.affine, dataset, headers, name)
    assert plan.fault is not None
    places = slice_places(headers, name)
    mean = places[0].copy()
    mean[:3, 2] = (places[-1][:3, 3] - places[0][:3, 3]) / (len(places) - 1)
    source = _volume(frames, mean, dataset, headers, name)
    source.spaced = source.stacked = False
    source.slice_affines = places
    source.meta[IRREGULAR] = plan.fault
    return source


def _picture(dataset: Dataset, headers: Sequence[Dataset], name: object) -> Source:
    intensity, meta = intensity_of(headers[0]), dicom_meta(dataset)
    values = read_values([dataset], [headers], name)[0]
    channels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    array, extra = fill_no_data(channels, dataset, headers, intensity, name)
    spacing = pixel_spacing(headers[0])
    if spacing is not None:
        meta[SPACING] = np.array(spacing)
    return Source(array, intensity, meta=meta | extra | _scale_meta(headers, intensity, name) | region_meta(dataset))


def _cine(dataset: Dataset, headers: Sequence[Dataset], name: object) -> Source:
    """Frames without positions: x columns, y rows, z time; one unit per pixel, shown as stored."""
    frames = read_values([dataset], [headers], name)
    source = _volume(frames, LPS_TO_RAS, dataset, headers, name)
    source.spaced = source.stacked = False
    source.meta |= {key: value for key, value in region_meta(dataset).items() if key != SPACING}
    return source


def _volume(
    frames: Array, affine: NDArray[np.float64], dataset: Dataset, headers: Sequence[Dataset], name: object
) -> Source:
    """(z, y, x[, 3]) with an affine of (x, y, z) in RAS -> (C, x, y, z)."""
    intensity = common_intensity(headers)
    stacked = frames[None] if frames.ndim == 3 else np.moveaxis(frames, -1, 0)
    array, extra = fill_no_data(np.ascontiguousarray(stacked.transpose(0, 3, 2, 1)), dataset, headers, intensity, name)
    meta = dicom_meta(dataset) | extra | {SOURCE_SHAPE: np.array(array.shape[1:])}
    meta |= _scale_meta(headers, intensity, name)
    return Source(array, intensity, check_affine(affine, name), stack_axis=2, meta=meta)


def _scale_meta(headers: Sequence[Dataset], intensity: Intensity, name: object) -> dict[str, bool]:
    doubtful = scales_differ(headers, name) or any(map(other_unit, headers))
    return {SCALE_DOUBTFUL: True} if intensity == "physical" and doubtful else {}
