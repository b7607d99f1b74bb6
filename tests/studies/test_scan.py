"""What a folder holds: every study once, a task where the header is clear, none where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from monai_tpseg.data.phantoms import make_volume, write_dicom_series
from monai_tpseg.studies import find_entries, scan
from monai_tpseg.transforms import ReadError

from .conftest import MARKER


def test_tasks_are_proposed_from_modalities_and_never_guessed(corpus: Path) -> None:
    found = {entry.path.removeprefix(f"{MARKER}_"): (entry.task, entry.modality) for entry in scan(corpus)}
    assert found == {
        "ct/series": ("lung_infection", "CT"),
        "thyroid_nodule.dcm": ("", "US"),
        "colon_polyp.dcm": ("colon_polyp", "ES"),
        "skin_lesion.dcm": ("", "XC"),
        "cut.dcm": ("", "XC"),
        "mr.nii.gz": ("", ""),
        "photo.png": ("", ""),
        "broken.png": ("", ""),
    }


def test_a_single_file_is_its_own_study(corpus: Path) -> None:
    (one,) = find_entries(corpus / f"{MARKER}_photo.png", "skin_lesion")
    assert (one.root, one.path, one.task) == (corpus, f"{MARKER}_photo.png", "skin_lesion")
    (series,) = find_entries(corpus / f"{MARKER}_ct" / "series")
    assert (series.root, series.path) == (corpus / f"{MARKER}_ct", "series")


def test_a_mixed_folder_is_one_case_and_the_others_stay(corpus: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        series = write_dicom_series(make_volume("lung_infection", seed, (32, 32, 6)), tmp_path / str(seed), seed)
        shutil.copytree(series, tmp_path / "in" / "mixed", dirs_exist_ok=True,
                        copy_function=lambda a, b, n=seed: shutil.copy(a, f"{b}.{n}"))  # fmt: skip
    shutil.copy(corpus / f"{MARKER}_photo.png", tmp_path / "in")
    assert [entry.path for entry in find_entries(tmp_path / "in")] == [f"{MARKER}_photo.png", "mixed"]


def test_objects_that_are_no_images_are_listed(corpus: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(corpus / f"{MARKER}_skin_lesion.dcm")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(header, keyword)
    header.Modality = "SR"
    header.save_as(tmp_path / "report.dcm")
    (tmp_path / "empty.dcm").write_bytes(b"")
    shutil.copy(corpus / f"{MARKER}_photo.png", tmp_path)
    notes = {entry.path: entry.note for entry in scan(tmp_path)}
    assert set(notes) == {"report.dcm", "empty.dcm", f"{MARKER}_photo.png"}
    assert notes["report.dcm"] == "no image"


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        scan(tmp_path)
    assert caught.value.code == "E_EMPTY"
