"""Gaps and tilt: refused by default, or read slice by slice, each where it lies; and which file is which slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from monai.data import MetaTensor
from pydicom.dataset import Dataset

from monai_tpseg.io import ReadError
from monai_tpseg.io.display import files_of, source_of
from monai_tpseg.transforms import LoadMedicalImage, LoadMedicalImaged

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]
DIRECTIONS = {
    "axial": ((0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 0, -1), (1, 0, 0)),
    "sagittal": ((0, 0, -1), (0, 1, 0)),
    "prone": ((0, -1, 0), (-1, 0, 0)),
}


@pytest.fixture
def hu(letter_volume: Array) -> Array:
    """(7, 20, 13) HU, each voxel of its own."""
    values: Array = (np.arange(letter_volume.size, dtype=np.float64) - 900).reshape(7, 20, 13)
    return values


def gap(datasets: list[Dataset]) -> None:
    normal = np.cross(datasets[0].ImageOrientationPatient[:3], datasets[0].ImageOrientationPatient[3:])
    for dataset in datasets[4:]:
        dataset.ImagePositionPatient = [float(x) for x in np.asarray(dataset.ImagePositionPatient, float) + 7 * normal]


def tilt(datasets: list[Dataset]) -> None:
    along = np.asarray(datasets[0].ImageOrientationPatient[3:], float)
    for n, dataset in enumerate(datasets):
        moved = np.asarray(dataset.ImagePositionPatient, float) + 0.4 * n * along
        dataset.ImagePositionPatient = [float(x) for x in moved]


def places(files: tuple[Path, ...]) -> dict[float, Array]:
    """Value -> RAS millimetres of every pixel, from the headers alone."""
    found = {}
    for path in files:
        dataset = pydicom.dcmread(path)
        across = np.asarray(dataset.ImageOrientationPatient, float).reshape(2, 3)
        for row in range(dataset.Rows):
            for column in range(dataset.Columns):
                place = np.asarray(dataset.ImagePositionPatient, float)
                place = place + column * dataset.PixelSpacing[1] * across[0] + row * dataset.PixelSpacing[0] * across[1]
                found[float(dataset.pixel_array[row, column]) - 1024] = place * [-1, -1, 1]
    return found


def check_places(image: MetaTensor, files: tuple[Path, ...]) -> None:
    expected = places(files)
    affines = np.asarray(image.meta["slice_affines"])
    assert affines.shape == (image.shape[-1], 4, 4)
    for n in range(image.shape[-1]):
        for row, column in ((0, 0), (19, 0), (3, 12), (image.shape[1] - 1, image.shape[2] - 1)):
            found = affines[n] @ [row, column, 0, 1]
            np.testing.assert_allclose(found[:3], expected[float(image[0, row, column, n])], atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("edit", "kind", "code"), [(gap, "gap", "E_SERIES_GAP"), (tilt, "tilt", "E_SERIES_TILT")])
def test_each_slice_keeps_its_place(
    write_series: Write, hu: Array, edit: Callable[[list[Dataset]], None], kind: str, code: str, direction: str
) -> None:
    folder = write_series(hu, *DIRECTIONS[direction], edit=edit)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(folder)
    assert caught.value.code == code
    image = LoadMedicalImage(irregular="slices")(folder)
    assert image.meta["irregular"] == kind
    assert "spacing" not in image.meta
    assert image.shape == (3, 20, 13, 7)
    np.testing.assert_array_equal(np.sort(image[0].numpy().ravel()), np.sort(hu.ravel()))  # nothing is resampled
    check_places(image, files_of(image.meta))


def test_a_regular_series_is_read_as_ever(write_series: Write, hu: Array) -> None:
    folder = write_series(hu)
    strict, loose = (LoadMedicalImage(irregular=choice)(folder) for choice in ("refuse", "slices"))
    np.testing.assert_array_equal(strict.numpy(), loose.numpy())
    assert "irregular" not in loose.meta
    assert "slice_affines" not in loose.meta


def test_other_faults_stay_faults(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        gap(datasets)
        datasets[1].ImagePositionPatient = datasets[0].ImagePositionPatient

    with pytest.raises(ReadError) as caught:
        LoadMedicalImage(irregular="slices")(write_series(hu, edit=edit))
    assert caught.value.code == "E_SERIES_DUPLICATE"


def test_irregular_slices_form_no_other_plane(write_series: Write, hu: Array) -> None:
    folder = write_series(hu, edit=gap)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage(plane="coronal", irregular="slices")(folder)
    assert caught.value.code == "E_GEOMETRY"
    stored = LoadMedicalImage(plane="stored", irregular="slices")(folder)
    check_places(stored, files_of(stored.meta))


def test_rescale_of_each_slice_its_own(write_series: Write, hu: Array) -> None:
    def edit(datasets: list[Dataset]) -> None:
        gap(datasets)
        datasets[2].RescaleSlope = 2

    image = LoadMedicalImage(irregular="slices")(write_series(hu, edit=edit))
    expected = hu.copy()
    expected[2] = 2 * (hu[2] + 1024) - 1024
    np.testing.assert_array_equal(image[0].numpy(), expected.transpose(1, 2, 0))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_files_come_in_the_order_of_the_slices(write_series: Write, hu: Array, direction: str) -> None:
    folder = write_series(hu, *DIRECTIONS[direction])
    image = LoadMedicalImage()(folder)
    files = files_of(image.meta)
    assert len(files) == 7
    for n, path in enumerate(files):
        stored = pydicom.dcmread(path).pixel_array.astype(float) - 1024
        assert set(stored.ravel()) == set(image[0, ..., n].numpy().ravel())
    assert source_of(image.meta) == folder
    again = LoadMedicalImage()(files)
    np.testing.assert_array_equal(again.numpy(), image.numpy())
    assert source_of(again.meta) == files
    assert files_of(again.meta) == files
    assert isinstance(image.meta["files"], str)  # collates whatever the number of slices


def test_the_dictionary_version_takes_both(write_series: Write, hu: Array) -> None:
    folder = write_series(hu, edit=gap)
    case = LoadMedicalImaged("image", irregular="slices")({"image": [str(path) for path in folder.iterdir()]})
    assert case["image"].meta["irregular"] == "gap"
    with pytest.raises(ValueError, match="irregular"):
        LoadMedicalImage(irregular="resample")  # type: ignore[arg-type]


def test_a_picture_names_its_file(tmp_path: Path, write_dicom: Write, letter: Array) -> None:
    path = write_dicom("a", letter)
    assert files_of(LoadMedicalImage()(path).meta) == (path,)
    assert source_of(LoadMedicalImage()([path]).meta) == path
