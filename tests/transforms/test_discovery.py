"""One walk finds every case, counts what is none, and is not led astray by links, pipes and copies."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, JPEG2000Lossless, RLELossless

from monai_tpseg.io import ReadError, list_cases
from monai_tpseg.io.dicom.split import find_stacks
from monai_tpseg.io.discovery import Case, discover
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms import LoadMedicalImage

Write = Callable[..., Path]


def picture(path: Path, value: int = 0, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4), value).save(path, kind)
    return path


def told(cases: list[Case], root: Path) -> list[tuple[str, str, str]]:
    return [(case.path.relative_to(root).as_posix(), case.part, case.skip) for case in cases]


def test_every_file_is_a_case_or_counted(tmp_path: Path) -> None:
    for name, kind in (("a.png", "PNG"), ("b.jfif", "JPEG"), ("c.jpe", "JPEG"), ("IMG1", "PNG"), ("d.BMP", "BMP")):
        picture(tmp_path / name, kind=kind, value=len(name) * 7)
    picture(tmp_path / "e.webp", kind="WEBP")
    for name in ("notes.docx", "more.docx", "film.mp4", "README", ".DS_Store", "BMI", "head.hdr"):
        (tmp_path / name).write_bytes(b"BMI,age\n1,2\n" if name == "BMI" else b"text")
    picture(tmp_path / "a_skin_lesion_mask.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    one = socket.socket(socket.AF_UNIX)
    where = os.getcwd()
    os.chdir(tmp_path)  # names of sockets are short
    try:
        one.bind("s.png")
    finally:
        os.chdir(where)
        one.close()
    found = discover(tmp_path)
    assert sorted(case.path.name for case in found.cases) == ["IMG1", "a.png", "b.jfif", "c.jpe", "d.BMP"]
    left_out = {"webp": 1, "docx": 2, "mp4": 1, "without suffix": 2, "hidden file": 1, "hdr": 1, "pipe": 1, "device": 1}
    assert +found.left_out == Counter(left_out) + Counter({"broken link": 1, "socket": 1, "of our own results": 1})
    assert len(found.cases) + found.left_out.total() == len(list(tmp_path.iterdir()))
    for case in found.cases:
        assert LoadMedicalImage()(case.path).shape == (3, 4, 6)


def test_folders_that_link_to_each_other_are_looked_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / "in" / name for name in "abcdef"]
    for folder in folders:
        folder.mkdir(parents=True)
    for folder in folders:
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    picture(folders[3] / "x.png")
    assert told(discover(tmp_path / "in").cases, tmp_path / "in") == [("d/x.png", "", "")]  # where it really lies
    picture(tmp_path / "outside" / "y.png", 9)
    (folders[0] / "out").symlink_to(tmp_path / "outside")
    assert told(discover(tmp_path / "in").cases, tmp_path / "in")[1:] == [("a/out/y.png", "", "")]


def test_a_folder_that_may_not_be_opened_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "closed" / "x.png")
    picture(tmp_path / "open" / "y.png")
    own = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return own(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may open everything
    found = discover(tmp_path)
    assert told(found.cases, tmp_path) == [("open/y.png", "", "")]
    assert found.left_out["folder that may not be opened"] == 1
    with pytest.raises(ReadError) as caught:
        discover(tmp_path / "closed")
    assert caught.value.code == "E_NOT_FOUND"


def test_pipes_and_devices_that_are_named_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(ReadError, match=f"is a {kind}") as caught:
            discover(path)
        assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("where", ["IM0001 (1)", "z/again", "a/first"])
def test_copies_of_slices_count_once_wherever_they_lie(write_series: Write, where: str) -> None:
    folder = write_series(np.arange(6 * 20).reshape(6, 4, 5))
    for number in (1, 2, 3):
        copy = folder / where.replace("1", str(number))
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(folder / f"IM000{number}", copy.with_name(f"{copy.name}_{number}"))
    found = discover(folder)
    assert [(case.path, case.part) for case in found.cases] == [(folder, "")]
    assert found.left_out["copy of a DICOM object"] == 3
    assert LoadMedicalImage()(folder).shape == (3, 4, 5, 6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_copies_in_another_transfer_syntax_count_once(write_series: Write, syntax: str) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (4, 64, 72))
    folder = write_series(values)
    before = LoadMedicalImage()(folder)
    for number in range(3):
        dataset = pydicom.dcmread(folder / f"IM000{number}")
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(folder / f"A{number}")
    (case,) = discover(folder).cases
    assert case.copies == 3
    after = LoadMedicalImage()(folder)
    assert after.shape == before.shape
    assert np.array_equal(after.numpy(), before.numpy())
    shutil.copytree(folder, folder / "b" / "whole")
    assert len(discover(folder).cases) == 1


def test_one_uid_for_all_objects_loses_none(write_series: Write, write_dicom: Write, tmp_path: Path) -> None:
    def edit(datasets: list[Dataset]) -> None:
        for dataset in datasets:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.77"

    folder = write_series(np.zeros((5, 4, 5)), edit=edit)  # a careless anonymisation
    assert LoadMedicalImage()(folder).shape[-1] == 5
    (case,) = discover(folder).cases
    assert case.copies == 0
    for number in range(3):  # nothing but the pixels tells these apart
        write_dicom(f"us{number}/a", np.full((4, 4), number, np.uint8), "US", SOPInstanceUID="1.2.3.78")
    assert len(discover(tmp_path).cases) == 4


def test_parts_that_overlap_are_both_kept_and_it_is_said(write_series: Write, tmp_path: Path) -> None:
    folder = write_series(np.zeros((6, 4, 5)))
    names = sorted(path.name for path in folder.iterdir())
    for target, chosen in (("in/a", names[:4]), ("in/b", names[2:])):
        (tmp_path / target).mkdir(parents=True)
        for name in chosen:
            shutil.copy(folder / name, tmp_path / target / name)
    first, second = discover(tmp_path / "in").cases
    assert (first.remarks, second.remarks) == ((), ("2 of its 4 DICOM objects lie in another case too",))


def test_exact_duplicates_of_pictures_are_said(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "sub" / "c")
    picture(tmp_path / "d.png", 3)
    found = {case.path.name: case.remarks for case in discover(tmp_path).cases}
    same = "the same file as a.png"
    assert found == {"a.png": (), "b.png": (same,), "d.png": (), "c": (f"{same} in another folder",)}


def test_localizers_and_documents_are_skipped_and_no_cases_of_a_bundle(write_series: Write, write_dicom: Write) -> None:
    folder = write_series(np.zeros((3, 4, 5)), name="in")
    place = {"PixelSpacing": [1, 1], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [0, 0, 0]}
    scout = write_dicom("in/scout", np.zeros((9, 9), np.uint16), "CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
                        SeriesInstanceUID="1.2.3.99", **place)  # fmt: skip
    write_dicom("in/doc/pdf", np.zeros((4, 4), np.uint8), "DOC", SOPClassUID=EncapsulatedPDFStorage)
    found = told(discover(folder).cases, folder)
    assert found == [(".", "", ""), ("scout", "", "localizer"), ("doc/pdf", "", "no image")]
    assert list_cases(folder) == [folder]
    assert LoadMedicalImage()(folder).shape == (3, 4, 5, 3)
    alone = write_dicom("alone/a", np.zeros((4, 4), np.uint16), "MR", ImageType="LOCALIZER", **place)
    assert [case.skip for case in discover(alone.parent).cases] == ["localizer"]
    assert list_cases(scout) == [scout]


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "E_TRUNCATED"), (bytes(4000), "E_DECODE"), (b"\x07" * 99, "E_DECODE")]
)
def test_a_lost_slice_at_the_end_of_a_series_is_not_left_out(tmp_path: Path, content: bytes, code: str) -> None:
    """Files without a suffix, as archives export them: no gap betrays that the last one is empty."""
    folder = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "series")
    last = max(folder.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    for number, path in enumerate(sorted(folder.iterdir()), start=1):
        if path == last:
            path.write_bytes(content)
        path.rename(folder / f"IM{number:04}")
    (folder / "DONE").touch()
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(folder)
    assert caught.value.code == code
    found = discover(folder)
    assert [len(case.files) for case in found.cases] == [6]
    assert found.left_out["without suffix"] == 1
    (stack,) = find_stacks(folder)
    assert len(stack.files) == 6
