"""What a folder holds: every study once, a task where the header is clear, none where it is not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from monai_tpseg.io import ReadError
from monai_tpseg.io.locate import known_parts
from monai_tpseg.studies import Entry, find_entries, scan
from monai_tpseg.studies.scan import scan_images
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series
from monai_tpseg.transforms import LoadMedicalImage

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


def mixed(folder: Path) -> Path:
    """Two CT series in one folder."""
    for seed in (1, 2):
        series = write_dicom_series(make_volume("lung_infection", seed, (32, 32, 6 + seed)), folder / str(seed), seed)
        shutil.copytree(series, folder / "in" / "mixed", dirs_exist_ok=True,
                        copy_function=lambda a, b, n=seed: shutil.copy(a, f"{b}.{n}"))  # fmt: skip
    return folder / "in"


def test_a_mixed_folder_is_split_and_each_part_can_be_read(corpus: Path, tmp_path: Path) -> None:
    folder = mixed(tmp_path)
    shutil.copy(corpus / f"{MARKER}_photo.png", folder)
    photo, *parts = scan(folder)
    assert photo.path == f"{MARKER}_photo.png"
    assert [(part.path, part.part, part.task) for part in parts] == [
        ("mixed", "1/2", "lung_infection"),
        ("mixed", "2/2", "lung_infection"),
    ]
    assert len({part.source_id for part in parts}) == 2
    assert all("series" in part.note for part in parts)
    depths = {LoadMedicalImage()(part.source()).shape[-1] for part in parts}
    assert depths == {7, 8}


def test_a_localizer_beside_images_gets_no_task_unless_it_is_named(tmp_path: Path) -> None:
    folder = mixed(tmp_path)
    (folder / "scout").mkdir()
    scout = write_dicom_picture(make_phantom("thyroid_nodule", 1, 40), folder / "scout" / "scout.dcm")
    header = pydicom.dcmread(scout)
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    header.save_as(scout)
    tasks = {entry.path: entry.task for entry in find_entries(folder, "lung_infection")}
    assert tasks == {"mixed": "lung_infection", "scout": ""}
    (alone,) = find_entries(scout, "lung_infection")
    assert alone.task == "lung_infection"


def test_a_folder_that_has_changed_since_its_scan_is_not_read(tmp_path: Path) -> None:
    folder = mixed(tmp_path)
    first, _ = scan(folder)
    for file in (folder / "mixed").glob("*.2"):
        file.unlink()
    known_parts.cache_clear()
    first = replace(first, files=())  # as a manifest has it
    with pytest.raises(ReadError) as caught:
        first.source()
    assert caught.value.code == "E_NOT_FOUND"


def test_a_link_in_a_series_leads_nowhere_else(corpus: Path, tmp_path: Path) -> None:
    folder = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "root" / "series")
    (folder / "more.dcm").symlink_to(corpus / f"{MARKER}_skin_lesion.dcm")
    with pytest.raises(ReadError) as caught:
        Entry("series", tmp_path / "root", "lung_infection", "00").source()
    assert caught.value.code == "E_OUTSIDE"


def test_pictures_of_a_screen_are_listed_and_not_proposed(corpus: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(corpus / f"{MARKER}_colon_polyp.dcm")
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.save_as(tmp_path / "screen.dcm")
    (one,) = scan(tmp_path)
    assert (one.task, one.modality) == ("", "ES")
    assert "secondary capture" in one.note


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
    shutil.copy(corpus / f"{MARKER}_photo.png", tmp_path / f"{MARKER}_photo_label.png")
    shutil.copy(corpus / f"{MARKER}_photo.png", tmp_path / "lone_label.png")  # a mask of nothing: a person decides
    entries, left_out = scan_images(tmp_path)
    assert {entry.path for entry in entries} == {"empty.dcm", f"{MARKER}_photo.png", "lone_label.png"}
    assert left_out == {"DICOM without an image": 1, "mask beside its picture": 1}
    with pytest.raises(ReadError, match=r"report\.dcm contains no image \(1 DICOM without an image\)"):
        scan_images(tmp_path / "report.dcm")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        scan(tmp_path)
    assert caught.value.code == "E_EMPTY"
