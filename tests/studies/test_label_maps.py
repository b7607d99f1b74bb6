"""Label maps for 3D Slicer and ITK-SNAP, read back by slicerio, pynrrd and SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio

from monai_tpseg.catalogue import get_task
from monai_tpseg.cli import main
from monai_tpseg.results.folder import read_result
from monai_tpseg.results.label_maps import LABEL_MAPS, check_label_maps, write_label_maps
from monai_tpseg.segment import find_lesions
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series, write_nifti
from monai_tpseg.transforms.transfer import load_case
from tests.studies.conftest import write_weights

TASK = get_task("lung_infection")


def write(folder: Path, source: Path) -> tuple[dict[str, Path], Any]:
    """Label maps of three boxes of different size, and the image."""
    image = load_case(source)
    mask = np.zeros(image.shape[1:], np.uint8)
    mask[2:9, 5:16, 1:3] = mask[20:24, 6:12, 2:5] = mask[12:15, 25:27, 0:2] = 1
    return write_label_maps(folder / "c1_t", find_lesions(mask, image.meta), image.meta, TASK, LABEL_MAPS), image


def sources(folder: Path) -> dict[str, Path]:
    volume = make_volume("lung_infection", 1, (32, 40, 6))
    write_nifti(volume, folder / "a.nii.gz")
    return {"nifti": folder / "a.nii.gz", "dicom": write_dicom_series(volume, folder / "series")}


def turned(path: Path, tmp_path: Path) -> Path:
    """The same volume with an oblique affine and a flipped axis."""
    source = nibabel.load(path)
    affine = np.array([[-0.48, 0.64, 0, 20], [0.64, 0.48, 0, -7], [0, 0, -2.5, 11], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.asarray(source.dataobj), affine), tmp_path / "turned.nii.gz")
    return tmp_path / "turned.nii.gz"


@pytest.mark.parametrize("kind", ["nifti", "dicom", "turned"])
def test_slicer_finds_every_lesion_where_it_is(tmp_path: Path, kind: str) -> None:
    given = sources(tmp_path)
    source = turned(given["nifti"], tmp_path) if kind == "turned" else given[kind]
    files, image = write(tmp_path, source)
    made = slicerio.read_segmentation(str(files["seg_nrrd"]))
    assert [segment["name"] for segment in made["segments"]] == [f"{TASK.title} {n}" for n in (1, 2, 3)]
    assert [segment["labelValue"] for segment in made["segments"]] == [1, 2, 3]
    assert len({tuple(segment["color"]) for segment in made["segments"]}) == 3
    assert made["segments"][0]["color"] == [0.0, 1.0, 1.0]  # cyan, as on overlays
    terms = made["segments"][0]["terminology"]
    assert terms["type"][:2] == ["SCT", TASK.lesion.value]
    assert terms["anatomicRegion"][:2] == ["SCT", TASK.anatomy.value]
    sizes = [int((made["voxels"] == n).sum()) for n in (1, 2, 3)]
    assert sizes == [7 * 11 * 2, 4 * 6 * 3, 3 * 2 * 2]
    index = np.argwhere(made["voxels"] == 3)
    lps = made["ijkToLPS"] @ np.append(index.mean(axis=0), 1)
    expected = np.asarray(image.affine) @ [13, 25.5, 0.5, 1]  # the middle of the third box, RAS
    np.testing.assert_allclose(lps[:3], expected[:3] * [-1, -1, 1], atol=1e-3)


def test_header_of_the_nrrd(tmp_path: Path) -> None:
    files, _ = write(tmp_path, sources(tmp_path)["nifti"])
    labels, header = nrrd.read(str(files["seg_nrrd"]))
    source = nibabel.load(tmp_path / "a.nii.gz")
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_allclose(header["space directions"].T, np.diag([-1, -1, 1]) @ source.affine[:3, :3], atol=1e-4)
    assert labels.dtype == np.uint8
    for n in range(3):
        assert header[f"Segment{n}_Extent"] == "0 31 0 39 0 5" or header[f"Segment{n}_Extent"] == "0 39 0 31 0 5"
        assert [int(x) + 1 for x in header[f"Segment{n}_Extent"].split()[1::2]] == list(labels.shape)
        assert header[f"Segment{n}_Layer"] == "0"
    assert header["Segmentation_SourceRepresentation"] == "Binary labelmap"


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_itksnap_opens_lesions_and_their_names(tmp_path: Path, kind: str) -> None:
    source = sources(tmp_path)[kind]
    files, _ = write(tmp_path, source)
    labels = sitk.ReadImage(str(files["label_map"]))
    image = sitk.ReadImage(str(source)) if kind == "nifti" else None
    if image is not None:
        assert (labels.GetOrigin(), labels.GetSpacing()) == (image.GetOrigin(), image.GetSpacing())
    array = sitk.GetArrayFromImage(labels)
    rows = re.findall(
        r'^ *(\d+) +(\d+) +(\d+) +(\d+) +([01]) +([01]) +([01]) +"(.*)"$', files["itksnap"].read_text(), re.M
    )
    assert [(int(row[0]), row[7]) for row in rows] == [
        (0, "Clear Label"),
        *((n, f"{TASK.title} {n}") for n in (1, 2, 3)),
    ]
    assert sorted(np.unique(array)) == [int(row[0]) for row in rows]
    assert rows[1][1:4] == ("0", "255", "255")
    for other in (sitk.ReadImage(str(files["seg_nrrd"])),):  # both files say the same place
        np.testing.assert_array_equal(sitk.GetArrayFromImage(other), array)
        np.testing.assert_allclose(other.GetOrigin(), labels.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(other.GetDirection(), labels.GetDirection(), atol=1e-6)


def test_many_lesions_keep_their_numbers_and_a_rerun_its_bytes(tmp_path: Path) -> None:
    source = sources(tmp_path)["nifti"]
    image = load_case(source)
    mask = np.zeros(image.shape[1:], np.uint8)
    mask[::2, ::2, ::2] = 1
    lesions = find_lesions(mask, image.meta)
    assert lesions.max() > 255
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files = write_label_maps(tmp_path / name / "c", lesions, image.meta, TASK, LABEL_MAPS)
        found.append({kind: path.read_bytes() for kind, path in files.items()})
    assert found[0] == found[1]
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(files["label_map"]))).max() == lesions.max()
    assert len(slicerio.read_segmentation(str(files["seg_nrrd"]))["segments"]) == lesions.max()


def test_run_writes_them_on_request_and_names_them(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "model.pt")
    source = sources(tmp_path)["dicom"]
    common = ["run", str(source), "--task", "lung_infection", "--checkpoint", str(weights), "--threshold", "0.4"]
    common += ["--device", "cpu", "--quiet", "--names", "source"]
    assert main([*common, "--out", str(tmp_path / "plain")]) == 0
    more_options = ["--label-maps", "itksnap,seg.nrrd", "--seg", "labelmap"]
    assert main([*common, "--out", str(tmp_path / "more"), *more_options]) == 0
    (plain,), (more,) = ([*(tmp_path / out / "cases").iterdir()] for out in ("plain", "more"))
    records = [read_result(folder) for folder in (plain, more)]
    assert records[0] is not None
    assert records[1] is not None
    assert set(records[1]["files"]) - set(records[0]["files"]) == {"seg_nrrd", "label_map", "itksnap"}
    assert all((more / name).is_file() for name in records[1]["files"].values())
    assert {"encoding", "label_maps"}.isdisjoint(records[0]["provenance"]["config"])
    assert records[1]["provenance"]["config"]["encoding"] == "labelmap"
    assert (plain / records[0]["files"]["mask"]).read_bytes() == (more / records[1]["files"]["mask"]).read_bytes()


def test_an_unknown_form_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown label map 'mha'; choose from seg\.nrrd, itksnap"):
        check_label_maps(["mha"])
    source = sources(tmp_path)["nifti"]
    words = ["run", str(source), "--task", "lung_infection", "--out", str(tmp_path / "out"), "--label-maps", "mha"]
    assert main([*words, "--device", "cpu"]) == 2
    assert "choose from seg.nrrd, itksnap" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cases").exists()


def test_pictures_and_empty_masks_get_none(tmp_path: Path) -> None:
    image = load_case(sources(tmp_path)["nifti"])
    empty = np.zeros(image.shape[1:], np.int32)
    assert write_label_maps(tmp_path / "c", empty, image.meta, TASK, LABEL_MAPS) == {}
