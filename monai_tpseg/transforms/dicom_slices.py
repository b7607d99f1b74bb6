"""Slices that do not form a regular grid: each keeps its own place, nothing is resampled."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.transforms.dicom import Dataset
from monai_tpseg.transforms.dicom_stack import sorted_slices
from monai_tpseg.transforms.dicom_values import decode, dicom_meta, display_values, intensity_of, physical_values
from monai_tpseg.transforms.encoded import decompress
from monai_tpseg.transforms.errors import ReadCode
from monai_tpseg.transforms.meta import IRREGULAR, SOURCE_SHAPE, Intensity
from monai_tpseg.transforms.sources import Array, Source, check_affine, finite

__all__ = ["FAULTS", "Fault", "Irregular", "read_frames", "read_slices"]

Irregular = Literal["refuse", "slices"]
"""What to do with slices at unequal distances or stacked obliquely."""

Fault = Literal["gap", "tilt"]

FAULTS: dict[ReadCode, Fault] = {"E_SERIES_GAP": "gap", "E_SERIES_TILT": "tilt"}
"""The code that refuses an irregular stack -> what the meta calls it."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_slices(datasets: list[Dataset], fault: Fault, name: object) -> Source:
    """Read single frames of one size and orientation, each as stored.

    Args:
        datasets: with positions, no two at the same place, sorted along their normal.
        fault: what is irregular about them.
        name: what the message calls them.

    Returns:
        (C, x, y, z). The affine takes the mean step from slice to slice; `slice_affines` hold the place of each.

    Raises:
        ReadError: `E_TRUNCATED`, `E_CODEC`, `E_DECODE`, `E_GEOMETRY` or `E_NO_PIXELS`.
    """
    decompress(datasets, 1, name)
    intensity = intensity_of(datasets[0])
    convert = display_values if intensity == "display" else physical_values
    frames = np.stack([convert(decode(dataset, name)[0], dataset) for dataset in datasets])
    return _source(frames, datasets, intensity, dicom_meta(datasets[0]) | {IRREGULAR: fault}, name)


def read_frames(dataset: Dataset, frames: list[Dataset], fault: Fault, name: object) -> Source:
    """Read a multi-frame object whose frames form no regular grid, as `read_slices` does.

    Args:
        dataset: the object.
        frames: the header of each frame, see `frames_of`, in the order of the object.
        fault: what is irregular about them.
        name: what the message calls it.
    """
    intensity, stored = intensity_of(dataset), decode(dataset, name)
    numbers = {id(frame): number for number, frame in enumerate(frames)}
    placed = sorted_slices(frames)
    values = [(stored[numbers[id(frame)]], frame) for frame in placed]
    physical = intensity == "physical"
    converted = [physical_values(one, frame) if physical else display_values(one, dataset) for one, frame in values]
    return _source(np.stack(converted), placed, intensity, dicom_meta(dataset) | {IRREGULAR: fault}, name)


def _source(frames: Array, slices: list[Dataset], intensity: Intensity, meta: dict[str, Any], name: object) -> Source:
    """(z, y, x[, C]) with the header of each slice."""
    stacked = frames[None] if frames.ndim == 3 else np.moveaxis(frames, -1, 0)
    array, extra = finite(np.ascontiguousarray(stacked.transpose(0, 3, 2, 1)), name)
    places = [check_affine(_place(one, slices), name) for one in slices]
    affine = places[0].copy()
    affine[:3, 2] = (places[-1][:3, 3] - places[0][:3, 3]) / (len(places) - 1)
    meta |= extra | {SOURCE_SHAPE: np.array(array.shape[1:])}
    return Source(
        array,
        intensity,
        check_affine(affine, name),
        stack_axis=2,
        spaced=False,
        stacked=False,
        slice_affines=np.stack(places),
        meta=meta,
    )


def _place(dataset: Dataset, datasets: list[Dataset]) -> NDArray[np.float64]:
    """(4, 4) index (column, row, 0) -> RAS millimetres; the third step is the slice's thickness."""
    across = np.asarray(dataset.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    row_mm, column_mm = (float(edge) for edge in dataset.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across[0] * column_mm, across[1] * row_mm
    affine[:3, 2] = np.cross(across[0], across[1]) * _thickness(dataset, datasets)
    affine[:3, 3] = dataset.ImagePositionPatient
    placed: NDArray[np.float64] = _LPS_TO_RAS @ affine
    return placed


def _thickness(dataset: Dataset, datasets: list[Dataset]) -> float:
    """Millimetres, as stated; where it is not, the smallest distance between two slices."""
    stated = float(dataset.get("SliceThickness") or 0)
    if stated > 0:
        return stated
    positions = np.array([d.ImagePositionPatient for d in datasets], dtype=np.float64)
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).min())
