"""What a run writes, from the file on disc to the file on disc, with a network that finds what is bright."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from PIL import Image, ImageOps
from pydicom.dataset import Dataset

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.segment.trust_inferer import TrustInferer
from monai_tpseg.studies import Entry, Model, Run, find_entries, prepare_output
from monai_tpseg.studies.case import CaseRunner
from monai_tpseg.studies.reading import Read
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms.transfer import read_packed, unpack
from tests.transforms.conftest import image_object

Array = np.ndarray[Any, np.dtype[Any]]

OBLIQUE = np.linalg.qr(np.array([[-0.94, -0.33, -0.07], [-0.34, 0.92, 0.19], [0.0, -0.2, 0.98]]))[0]
GRIDS = {
    "RAS": np.diag([1.0, 1.0, 2.0]),
    "LPS": np.diag([-1.0, -1.0, 2.0]),
    "negative": np.diag([-0.8, 1.1, -2.5]),
    "anisotropic": np.diag([0.4, 1.3, 5.0]),
    "sagittal": np.array([[0, 0, 4.0], [1.0, 0, 0], [0, -1.2, 0]]),
    "oblique": OBLIQUE @ np.diag([0.7, 0.9, 3.3]),
}


class Bright(torch.nn.Module):
    """As good as the identity: what is bright is lesion."""

    def forward(self, image: torch.Tensor, task: Any = 0, **_: Any) -> torch.Tensor:
        low, high = image.amin(), image.amax()
        logits: torch.Tensor = 20 * (image.mean(dim=1, keepdim=True) - (low + high) / 2) / (high - low + 1e-6)
        return logits


@pytest.fixture(scope="module")
def bright(weights: Path) -> Model:
    """The path of a model with weights, with such a network in it."""
    model = Model(weights, "cpu")
    model.segmenter.network, model.segmenter.trust_inferer = Bright(), TrustInferer(TaskInferer((160, 128)))
    return model


@pytest.fixture(scope="module")
def volume() -> Array:
    """(52, 80, 7) in {0, 1} as (x, y, z): an F that is cut further from slice to slice, and a block apart from it."""
    letter = np.zeros((20, 13), dtype=np.uint8)
    letter[2:18, 3:5] = letter[2:4, 3:10] = letter[9:11, 3:8] = 1
    found = np.zeros((7, 80, 52), dtype=np.uint8)
    for n in range(1, 5):
        found[n] = letter.repeat(4, axis=0).repeat(4, axis=1)
        found[n, : 6 * n] = 0
    found[5:7, 64:72, 40:50] = 1
    return np.ascontiguousarray(found.transpose(2, 1, 0))


def segment_all(model: Model, source: Path, out: Path, task: str, names: Any = "salted") -> list[Path]:
    """Run all cases, without a process apart, and return their folders."""
    runner, folders = CaseRunner(model, out), []
    for name, entry in prepare_output(out, find_entries(source, task), names, False):
        plan = runner.planner.plan(name, entry)
        assert plan.source is not None
        runner.finish(plan, Read(unpack(read_packed(plan.source)), None))
        folders.append(runner.folder / name)
    return folders


def segment(model: Model, source: Path, out: Path, task: str) -> tuple[Path, dict[str, Any]]:
    """Run one case and return its folder and its record."""
    (folder,) = segment_all(model, source, out, task)
    return folder, json.loads((folder / "result.json").read_text())


def dice(one: Array, two: Array) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "lesions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_volume_comes_back_where_it_was(tmp_path: Path, bright: Model, volume: Array, grid: str) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GRIDS[grid], [-11.0, 22.5, 7.0]
    nib.save(nib.Nifti1Image(volume.astype(np.int16) * 1000 - 900, affine), tmp_path / "a.nii.gz")
    folder, record = segment(bright, tmp_path / "a.nii.gz", tmp_path / "out", "lung_infection")
    mask, source = nib.load(folder / record["files"]["mask"]), nib.load(tmp_path / "a.nii.gz")
    assert mask.shape == source.shape
    np.testing.assert_array_equal(mask.affine, source.affine)
    ours, theirs = (sitk.ReadImage(str(path)) for path in (folder / record["files"]["mask"], tmp_path / "a.nii.gz"))
    for name in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_array_equal(getattr(ours, name)(), getattr(theirs, name)())
    found = np.asarray(mask.dataobj) > 0
    assert dice(found, volume > 0) >= 0.99
    assert max(dice(np.flip(found, axis), volume > 0) for axis in range(3)) < 0.9  # it could not lie otherwise
    compare_with_itk(ours, rows_of(folder))


def compare_with_itk(mask: sitk.Image, rows: list[dict[str, str]]) -> None:
    """Volume, place and diameter against ITK's own labels and measures."""
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(mask, True))
    measures = sitk.LabelShapeStatisticsImageFilter()
    measures.ComputeFeretDiameterOn()
    measures.Execute(labels)
    assert len(rows) == measures.GetNumberOfLabels() == 2
    for row in rows:
        label = int(row["lesion"])
        assert int(row["voxels"]) == measures.GetNumberOfPixels(label)
        assert float(row["size"]) == pytest.approx(measures.GetPhysicalSize(label), abs=1e-2)
        assert row["size_unit"] == "mm3"
        place = [float(row[name]) for name in ("right_mm", "anterior_mm", "superior_mm")]
        np.testing.assert_allclose(place, np.array(measures.GetCentroid(label)) * [-1, -1, 1], atol=2e-3)
        # ITK measures between centres of voxels, we between their corners
        feret, diagonal = measures.GetFeretDiameter(label), float(np.linalg.norm(mask.GetSpacing()))
        assert feret < float(row["diameter"]) <= feret + diagonal + 1e-3
        assert float(row["mean_probability"]) > 0.9


def test_a_series_of_the_same_phantom_gives_the_same_mask(tmp_path: Path, bright: Model, volume: Array) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for n in range(7):
        frame = (volume[:, :, n].T.astype(np.int16) * 1000 - 900 + 1024).astype(np.uint16)
        image_object(
            frame, "CT", BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024, SliceThickness=2,
            FrameOfReferenceUID="1.2.3.5", PixelSpacing=[0.9, 0.7], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-11.0, 22.5, 7.0 + 2 * n], InstanceNumber=n,
        ).save_as(folder / f"{6 - n}.dcm", enforce_file_format=True)  # fmt: skip
    affine = np.array([[-0.7, 0, 0, 11.0], [0, -0.9, 0, -22.5], [0, 0, 2.0, 7.0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(volume.astype(np.int16) * 1000 - 900, affine), tmp_path / "a.nii.gz")
    one = segment(bright, folder, tmp_path / "1", "lung_infection")
    two = segment(bright, tmp_path / "a.nii.gz", tmp_path / "2", "lung_infection")
    ours, theirs = (nib.load(path / record["files"]["mask"]) for path, record in (one, two))
    np.testing.assert_array_equal(ours.dataobj, theirs.dataobj)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
    untracked = [[{**row, "tracking_id": ""} for row in rows_of(path)] for path, _ in (one, two)]
    assert untracked[0] == untracked[1]
    seg = pydicom.dcmread(one[0] / one[1]["files"]["seg"])
    assert [s.TrackingID for s in seg.SegmentSequence] == [row["tracking_id"] for row in rows_of(one[0])]
    assert "seg" not in two[1]["files"]


def test_pictures_of_every_kind_come_back_as_they_are_shown(tmp_path: Path, bright: Model, volume: Array) -> None:
    letter = np.ascontiguousarray(volume[:, :, 1].T)
    grey = Image.fromarray(letter * np.uint8(255))
    palette = Image.fromarray(letter, "P")
    palette.putpalette([10, 0, 0, 255, 250, 255])
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "grey.png": grey, "rgb.png": grey.convert("RGB"), "rgba.png": grey.convert("RGBA"), "palette.png": palette,
        "wide.png": Image.fromarray(letter.astype(np.uint16) * 65535), "a.jpg": grey, "b.tif": grey, "turned.jpg": grey,
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for name, picture in pictures.items():
        picture.save(tmp_path / "in" / name, **({"exif": exif} if name == "turned.jpg" else {}))
    assert len(segment_all(bright, tmp_path / "in", tmp_path / "out", "skin_lesion", "source")) == len(pictures)
    for name in pictures:
        stem = Path(name).stem
        with (
            Image.open(tmp_path / "in" / name) as source,
            Image.open(tmp_path / "out" / "cases" / f"{stem}_skin_lesion" / f"{stem}_skin_lesion_mask.png") as mask,
        ):
            shown = ImageOps.exif_transpose(source)
            assert (mask.size, mask.mode) == (shown.size, "L")
            found = np.asarray(mask)
        assert set(np.unique(found)) == {0, 255}
        expected = np.rot90(letter, -1) if name == "turned.jpg" else letter
        assert found.shape == expected.shape
        assert dice(found > 0, expected > 0) >= 0.99, name


def test_an_irregular_series_is_written_and_measured_slice_by_slice(
    tmp_path: Path, bright: Model, volume: Array
) -> None:
    folder = write_dicom_series(make_volume("lung_infection", 1, (64, 64, 6)), tmp_path / "series")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] += 9 * (dataset.InstanceNumber < 3)
        dataset.save_as(path)
    case, record = segment(bright, folder, tmp_path / "out", "lung_infection")
    assert (record["status"], record["flags"][0]) == ("review", "slice_gap")
    assert record["decisions"]["irregular"] == "gap"
    slices = sorted((case / record["files"]["mask"]).iterdir())
    assert [path.name for path in slices] == [f"slice_{n:04d}.nii.gz" for n in range(1, 7)]
    assert all(path.relative_to(case).as_posix() in record["sha256"] for path in slices)
    rows = rows_of(case)
    assert {row["size_unit"] for row in rows} == {"mm2"}
    heights = {str(n): nib.load(path).affine[2, 3] for n, path in enumerate(slices)}
    for row in rows:
        mask = nib.load(slices[int(float(row["slice"]))])
        pixel = float(np.prod(mask.header.get_zooms()[:2]))
        assert float(row["size"]) == pytest.approx(int(row["voxels"]) * pixel, abs=1e-2)
        assert float(row["superior_mm"]) == pytest.approx(heights[str(int(float(row["slice"])))], abs=1e-3)
    for n, path in enumerate(slices):
        inside = sum(int(row["voxels"]) for row in rows if float(row["slice"]) == n)
        assert int(np.asarray(nib.load(path).dataobj).sum()) == inside
    headers: list[Dataset] = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    seg = pydicom.dcmread(case / record["files"]["seg"])
    places = {
        tuple(float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient)
        for group in seg.PerFrameFunctionalGroupsSequence
    }
    assert places <= {tuple(float(x) for x in header.ImagePositionPatient) for header in headers}


def test_every_record_follows_the_schema(tmp_path: Path, model: Model, corpus: Path) -> None:
    schema = json.loads((files("monai_tpseg.results") / "result.schema.json").read_text())
    check = jsonschema.Draft202012Validator(schema)
    entries: list[Entry] = find_entries(corpus, "skin_lesion")
    entries[0] = replace(entries[0], task="")
    Run(model, tmp_path, quiet=True)(prepare_output(tmp_path, entries, "salted", False))
    paths = list((tmp_path / "cases").glob("*/result.json"))
    records = [json.loads(path.read_text()) for path in paths]
    assert {"failed", "skipped"} < {record["status"] for record in records}
    for path, record in zip(paths, records, strict=True):
        assert list(check.iter_errors(record)) == []
        for name, digest in record.get("sha256", {}).items():
            assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest
        listed = {*record.get("sha256", {}), "result.json"}
        assert {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()} == listed
    good = records[0]
    for broken in ({**good, "more": 1}, {**good, "status": "fine"}, {**good, "provenance": {}}):
        assert not check.is_valid(broken)


def test_a_source_that_names_no_study_gets_no_segmentation_and_a_flag(tmp_path: Path, bright: Model) -> None:
    picture = np.zeros((40, 48), dtype=np.uint8)
    picture[8:20, 10:30] = 255
    image_object(picture, "XC", StudyInstanceUID="").save_as(tmp_path / "a.dcm", enforce_file_format=True)
    _, record = segment(bright, tmp_path / "a.dcm", tmp_path / "out", "skin_lesion")
    assert (record["status"], record["flags"]) == ("review", ["maybe_panels", "no_seg"])
    assert "seg" not in record["files"]
    assert "StudyInstanceUID" in record["detail"]
    assert "repair its header" in record["detail"]


def test_the_record_says_what_kept_a_segmentation_from_being_written(
    tmp_path: Path, bright: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected failure of the writer is told apart from a header without references."""
    picture = np.zeros((40, 48), dtype=np.uint8)
    picture[8:20, 10:30] = 255
    image_object(picture, "XC").save_as(tmp_path / "a.dcm", enforce_file_format=True)

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr("monai_tpseg.io.dicom.segmentation.highdicom.seg.Segmentation", broken)
    _, record = segment(bright, tmp_path / "a.dcm", tmp_path / "out", "skin_lesion")
    assert "no_seg" in record["flags"]
    assert "ZeroDivisionError" in record["detail"]
    assert "Doe" not in json.dumps(record)
