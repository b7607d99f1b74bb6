"""One input, one answer: where the mask is, how many lesions and how large; or the mask where it was asked for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from monai_tpseg.cli import main
from monai_tpseg.cli.answer import AnswerError, answer, check_target, copy_mask, is_mask_file
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_series, write_nifti, write_png

ALL = ["--device", "cpu"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, a volume with voxels of 0.8 x 0.8 x 5 mm or so, and a DICOM series."""
    folder = tmp_path_factory.mktemp("sources")
    write_png(make_phantom("skin_lesion", 3, 64).image, folder / "mole.png")
    write_nifti(make_volume("lung_infection", 1, (64, 64, 6)), folder / "chest.nii.gz")
    (folder / "chest_label.nii.gz").unlink()
    write_dicom_series(make_volume("lung_infection", 1, (64, 64, 6)), folder / "series")
    return folder


def run(*words: object) -> int:
    return main(["run", *map(str, words), *ALL])


def lesions(mask: np.ndarray) -> tuple[int, int]:
    """Lesions of a mask and pixels of the largest; corners connect."""
    labels, count = ndimage.label(mask > 0, structure=np.ones((3,) * mask.ndim))
    return count, int(np.bincount(labels.ravel())[1:].max())


def test_a_picture_gives_the_path_and_pixels(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(sources / "mole.png", "--task", "skin_lesion") == 0
    path, found, *_ = capsys.readouterr().out.splitlines()
    mask = np.asarray(Image.open(path))
    assert Path(path).parts[0] == "tpseg_results"
    count, largest = lesions(mask)
    assert count == 1
    assert found.startswith(f"skin_lesion: 1 lesion, {largest:,} px, longest diameter ")
    assert "no pixel size" in found


def test_a_volume_gives_millilitres(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sources / "chest.nii.gz", "--task", "lung_infection", "--out", tmp_path / "chest.nii.gz") == 0
    path, found, *_ = capsys.readouterr().out.splitlines()
    assert path == str(tmp_path / "chest.nii.gz")
    mask = nibabel.load(path)
    values = np.asarray(mask.dataobj)
    ml = values.sum() * np.prod(mask.header.get_zooms()[:3]) / 1000
    count, _ = lesions(values)
    number, size = re.match(r"lung_infection: (\d+) lesions?, ([\d.,]+) ml", found).groups()  # type: ignore[union-attr]
    assert int(number) == count
    assert float(size.replace(",", "")) == pytest.approx(ml, rel=0.01)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chest.nii.gz"]


def test_a_series_gives_a_segmentation(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seg.dcm"
    assert run(sources / "series", "--task", "lung_infection", "--out", out) == 0
    seg = pydicom.dcmread(out)
    assert seg.Modality == "SEG"
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel = np.prod(measures.PixelSpacing) * float(measures.SpacingBetweenSlices)
    ml = int(seg.pixel_array.sum()) * voxel / 1000
    path, found, *_ = capsys.readouterr().out.splitlines()
    assert path == str(out)
    assert f" {len(seg.SegmentSequence)} lesion" in found
    size = re.search(r"([\d.,]+) ml", found)
    assert size is not None
    assert float(size[1].replace(",", "")) == pytest.approx(ml, rel=0.01)


@pytest.mark.parametrize(
    ("files", "lesions", "out", "message"),
    [
        ({"mask": "a_mask.nii.gz"}, 1, "m.png", "The mask of this source is .nii.gz, not .png"),
        ({"mask": "a_mask"}, 1, "m.nii.gz", "The mask of this source is a folder of slices, not .nii.gz"),
        ({"mask": "a_mask.nii.gz"}, 0, "m.dcm", "to write: no lesion was found. --out mask.nii.gz gives the mask"),
        ({"mask": "a_mask.png"}, 1, "m.dcm", "to write: the source is not DICOM."),
        ({}, 0, "m.png", "No mask (E_TRUNCATED): copy it again. Nothing was written."),
    ],
)
def test_a_case_without_such_a_file_says_what_it_has(
    files: dict[str, str], lesions: int, out: str, message: str, tmp_path: Path
) -> None:
    record = {"files": files, "lesions": lesions, "code": "E_TRUNCATED", "next_action": "copy it again", "detail": ""}
    with pytest.raises(AnswerError, match=re.escape(message)):
        copy_mask(tmp_path, record, str(tmp_path / out))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mask.png"
    out.write_bytes(b"mine")
    assert run(sources / "mole.png", "--task", "skin_lesion", "--out", out) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"Error: '{out}' already exists; add --overwrite to replace it, or choose another --out."
    ]
    assert out.read_bytes() == b"mine"
    assert run(sources / "mole.png", "--task", "skin_lesion", "--out", out, "--overwrite", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert set(np.unique(np.asarray(Image.open(out)))) == {0, 255}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mole.png", "--task", "skin_lesion", "--out", "m.jpg"), "No mask is written as 'm.jpg'"),
        (("mole.png", "--task", "skin_lesion", "--out", "m.nii.gz"), "The mask of a picture is .png, not .nii.gz"),
        (("mole.png", "--task", "skin_lesion", "--out", "m.dcm"), "The mask of a picture is .png, not .dcm"),
        (("chest.nii.gz", "--task", "lung_infection", "--out", "m.png"), "The mask of a volume is .nii.gz, not .png"),
        (("mole.png", "--tasks", "skin_lesion,wet_amd", "--out", "m.png"), "holds one mask"),
        (("mole.png", "--task", "skin_lesion", "--out", "no/m.png"), "does not exist; create it"),
        (("mole.png", "--task", "skin_lesion", "--out", "mole.png", "--overwrite"), "is a source"),
        (("series", "--task", "lung_infection", "--out", "series/{first}", "--overwrite"), "is a source"),
        ((".", "--task", "skin_lesion", "--out", "m.png"), "a file holds one mask: give a folder"),
        (("mole.png", "--task", "skin_lesion", "--out", "results", "--overwrite"), "--overwrite is for a file"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    words: tuple[str, ...],
    message: str,
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(sources, tmp_path / "in")
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    first = sorted(path.name for path in (folder / "series").iterdir())[0]
    assert run(*(word.format(first=first) for word in words)) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert message in error
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_that_takes_no_file_is_found_before_any_weights_are_read(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> str:
        raise AssertionError("the weights were asked for")

    monkeypatch.setattr("monai_tpseg.weights.choose_weights", read)
    assert run(sources / "mole.png", "--task", "skin_lesion", "--out", "/proc/m.png") == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("Error: '/proc/m.png' cannot be written (")
    assert error.endswith("); choose another --out.")


def test_a_source_that_cannot_be_read_says_what_to_do(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((sources / "mole.png").read_bytes()[:200])
    assert run(broken, "--task", "skin_lesion", "--out", tmp_path / "m.png") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: No mask (E_TRUNCATED): ")
    assert not (tmp_path / "m.png").exists()
    record = {"files": {}, "code": "E_TRUNCATED", "next_action": "copy it again"}
    assert list(answer(tmp_path, record)) == ["No mask (E_TRUNCATED): copy it again."]


def test_an_empty_mask_and_many_lesions_in_words(tmp_path: Path) -> None:
    record = {"files": {"mask": "m.png", "lesions": "l.csv"}, "task": "skin_lesion", "flags": ["empty"]}
    head = "size,size_unit,diameter,diameter_unit\n"
    (tmp_path / "l.csv").write_text(head)
    assert list(answer(tmp_path, record, "m.png")) == ["m.png", "skin_lesion: no lesion was found."]
    (tmp_path / "l.csv").write_text(f"{head}30.25,mm2,9.5,mm\n3.5,mm2,2.0,mm\n")
    (_, found, look) = answer(tmp_path, {**record, "flags": ["touches_border"]}, "m.png")
    assert found == "skin_lesion: 2 lesions, 33.8 mm2 together; the largest 30.2 mm2, longest diameter 9.5 mm."
    assert look == "To review: a lesion reaches the edge of the picture or of a slice."


def test_folders_stay_folders(tmp_path: Path) -> None:
    (tmp_path / "looks_like.png").mkdir()
    assert not is_mask_file(str(tmp_path / "looks_like.png"))
    assert not is_mask_file("results_v1.2")
    assert is_mask_file("M.NII.GZ")
    with pytest.raises(AnswerError, match="does not exist; create it"):
        check_target("a.dcm", str(tmp_path / "no" / "m.dcm"), overwrite=False)
