"""What an input path means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from monai_tpseg.io import ReadError, list_cases
from monai_tpseg.io.kinds import stem
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


def test_a_file_is_itself_and_a_series_its_folder(tmp_path: Path, write_series: Write) -> None:
    folder = write_series(np.zeros((3, 4, 5)))
    assert list_cases(folder) == [folder]
    assert list_cases(folder / "IM0001") == [folder / "IM0001"]
    assert list_cases(str(tmp_path)) == [folder]


def test_a_folder_stands_for_what_can_be_read(tmp_path: Path, write_series: Write, write_dicom: Write) -> None:
    series = write_series(np.zeros((3, 4, 5)), name="z_series")
    picture = Image.new("L", (4, 4))
    wanted = ["b.png", "a.JPG", "sub/deeper/c.tif"]
    ignored = [".hidden.png", "b_skin_lesion_mask.png", "b_overlay.png", "b_prob.png", "__MACOSX/d.png", ".git/e.png"]
    for name in wanted + ignored:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name)
    for name in ("v.nii.gz", "v.nrrd", "notes.txt", "table.csv"):
        (tmp_path / name).write_text("x")
    frame = write_dicom("us_frame", np.zeros((4, 4), dtype=np.uint8), "US")
    found = list_cases(tmp_path)
    top = [tmp_path / name for name in ("a.JPG", "b.png", "us_frame", "v.nii.gz", "v.nrrd")]
    assert found == [*top, tmp_path / "sub/deeper/c.tif", series]
    assert frame in found


def test_frames_without_positions_are_cases_of_their_own(write_dicom: Write) -> None:
    paths = [write_dicom(f"us/{n}", np.zeros((4, 4), dtype=np.uint8), "US") for n in range(3)]
    assert list_cases(paths[0].parent) == paths


def test_each_series_of_a_folder_is_a_case(write_series: Write) -> None:
    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets[:2]:
            dataset.SeriesInstanceUID = "1.2.3.99"

    found = list_cases(write_series(np.zeros((5, 4, 5)), edit=edit))
    assert sorted(LoadMedicalImage()(case).shape for case in found) == [(3, 4, 5, 2), (3, 4, 5, 3)]


def test_a_series_with_a_stray_file_stays_a_series(write_series: Write) -> None:
    folder = write_series(np.ones((3, 4, 5)))
    Image.new("L", (4, 4)).save(folder / "preview.png")
    assert list_cases(folder) == [folder, folder / "preview.png"]
    assert LoadMedicalImage()(folder).shape == (3, 4, 5, 3)


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        list_cases(tmp_path)
    assert caught.value.code == "E_EMPTY"
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path)
    assert caught.value.code == "E_EMPTY"
    with pytest.raises(ReadError) as caught:
        list_cases(tmp_path / "absent")
    assert caught.value.code == "E_NOT_FOUND"


@pytest.mark.parametrize("path", [5, None, [5], b"a.png"])
def test_what_is_no_path_is_named(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a path or a list of paths, got"):
        LoadMedicalImage()(path)


@pytest.mark.parametrize("path", ["", ["a.png", ""]])
def test_an_empty_path_is_not_the_current_folder(path: Any) -> None:
    with pytest.raises(ReadError, match="A path is empty") as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_EMPTY"


def test_stem_strips_known_suffixes_only() -> None:
    names = {"a.nii.gz": "a", "a.b.PNG": "a.b", "1.2.840.1": "1.2.840.1", "IM1.dcm": "IM1", "x": "x", ".png": ".png"}
    assert {name: stem(Path(name)) for name in names} == names
