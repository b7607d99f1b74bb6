"""Positions and directions that were rounded are a grid; a slice that is missing is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monai_tpseg.io import ReadError, find_stacks
from monai_tpseg.transforms import LoadMedicalImage

Write = Callable[..., Path]


def turned(degrees: float) -> Any:
    """Columns, rows and normal of slices turned about an oblique axis, (3, 3)."""
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(np.radians(degrees)) * cross + (1 - np.cos(np.radians(degrees))) * cross @ cross


def series(
    write: Write,
    step: float,
    digits: int,
    across: Any,
    of_direction: int = 9,
    missing: int | None = None,
    count: int = 14,
) -> list[Path]:
    numbers = [n for n in range(count + 1) if n != (count if missing is None else missing)]
    stored = np.arange(len(numbers) * 20, dtype=np.int16).reshape(-1, 4, 5)
    return [
        write(
            f"{n}",
            frame,
            "CT",
            PixelSpacing=[0.7, 0.7],
            FrameOfReferenceUID="1.2.5",
            ImagePositionPatient=[round(float(x), digits) for x in np.array([-91.3, 17.7, 40]) + n * step * across[2]],
            ImageOrientationPatient=[round(float(x), of_direction) for x in across[:2].ravel()],
        )
        for n, frame in zip(numbers, stored, strict=True)
    ]


@pytest.mark.parametrize("degrees", [0, 25, 60])
@pytest.mark.parametrize(("step", "digits"), [(0.625, 2), (1 / 3, 2), (0.5, 2), (1.25, 1), (3.3333, 2), (5, 1)])
@pytest.mark.parametrize("of_direction", [9, 3, 2])
def test_rounded_places_are_a_grid(
    write_dicom: Write, step: float, digits: int, degrees: float, of_direction: int
) -> None:
    across = turned(degrees)
    image = LoadMedicalImage(plane="stored")(series(write_dicom, step, digits, across, of_direction))
    affine = np.diag([-1, -1, 1, 1]) @ np.asarray(image.meta["original_affine"])
    np.testing.assert_allclose(image.meta["spacing"], [0.7, 0.7, step], atol=0.012)
    np.testing.assert_allclose(
        affine[:3, :3].T @ affine[:3, :3], np.diag(image.meta["spacing"][[1, 0, 2]] ** 2), atol=1e-9
    )
    for n in range(14):  # no slice lies further off than the page says
        stated = np.round(np.array([-91.3, 17.7, 40]) + n * step * across[2], digits)
        assert np.linalg.norm(affine[:3, :3] @ [0, 0, n] + affine[:3, 3] - stated) <= 0.15


@pytest.mark.parametrize("missing", [1, 2, 7, 12, 13])
@pytest.mark.parametrize(("step", "digits"), [(0.625, 2), (0.3, 2), (0.1, 2), (1.25, 1), (5, 1)])
def test_a_missing_slice_is_found(write_dicom: Write, step: float, digits: int, missing: int) -> None:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(series(write_dicom, step, digits, turned(25), missing=missing))
    assert caught.value.code == "E_SERIES_GAP"


@pytest.mark.parametrize(("count", "missing"), [(3, 1), (3, 2), (4, 1), (4, 2), (40, 38)])
def test_a_missing_slice_of_few_or_many(write_dicom: Write, count: int, missing: int) -> None:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(series(write_dicom, 0.4, 2, turned(0), missing=missing, count=count))
    assert caught.value.code == "E_SERIES_GAP"


def test_directions_that_no_rounding_explains(write_dicom: Write) -> None:
    across = turned(25)
    for n, wrong in enumerate((across * 1.1, across + np.array([[0, 0.1, 0], [0, 0, 0], [0, 0, 0]]))):

        def write(name: str, *args: Any, n: int = n, **tags: Any) -> Path:
            return write_dicom(f"{n}/{name}", *args, **tags)

        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(series(write, 2, 4, wrong))
        assert caught.value.code == "E_GEOMETRY"


def test_pixel_spacings_that_end_together(write_dicom: Write) -> None:
    paths = [
        write_dicom(
            f"{n}",
            np.zeros((4, 5), np.int16),
            "CT",
            PixelSpacing=spacing,
            ImagePositionPatient=[0, 0, n],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        for n, spacing in enumerate([[0.48828125, 0.48828125], [0.488281, 0.4883], [0.48825, 0.48828]])
    ]
    assert LoadMedicalImage()(paths).shape[-1] == 3


def test_a_folder_is_not_split_by_rounding(tmp_path: Path, write_dicom: Write) -> None:
    across = turned(25)
    paths = series(write_dicom, 0.625, 2, across, 2)
    for n, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.PixelSpacing = [0.7, 0.7 + 1e-4 * (n % 3)]
        if n % 2:
            dataset.FrameOfReferenceUID = ""
        dataset.save_as(path)
    assert [stack.reason for stack in find_stacks(tmp_path)] == [""]
    for path in paths[:5]:
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = "1.2.6"
        dataset.save_as(path)
    stacks = find_stacks(tmp_path)
    assert [stack.reason for stack in stacks] == [f"frame of reference {n} of 3" for n in (1, 2, 3)]
    assert sum(len(stack.files) for stack in stacks) == 14
