"""Real volumes through a run: each ends as it should, with a mask on the grid of its source or with its code."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from monai_tpseg.cli import main

CASES = {
    "pyradiomics/brain1_image.nrrd": ("brain_tumor", ""),
    "deeplesion/CT_Lesion_000001_02_01_008-023_image.nii.gz": ("lung_infection", ""),
    "dcmqi/ct-3slice": ("lung_infection", ""),
    "dcmqi/24x38x3/image": ("lung_infection", ""),
    "dcmqi/24x38x3/multiframe/mf.dcm": ("lung_infection", ""),
    "dcmqi/liver.dcm": ("lung_infection", "E_NOT_IMAGE"),  # a DICOM SEG
    "monai_tiny/anatomical.nii": ("brain_tumor", ""),
}
"""Path -> the task, and the code that the run must give."""


def itk_image(source: Path) -> sitk.Image:
    """Read a source as ITK does."""
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source)) if source.is_dir() else str(source)
    return sitk.ReadImage(files)


def test_real_volumes_end_as_they_should(shared_dir: Path, weights: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "volumes"
    if not folder.is_dir():
        pytest.skip("no shared/data/volumes")
    table = "\n".join(["path,task", *(f"{path},{task}" for path, (task, _) in CASES.items())])
    (tmp_path / "manifest.csv").write_text(table + "\n")
    run = ["run", "--data", str(tmp_path / "manifest.csv"), "--root", str(folder), "--names", "source"]
    out = tmp_path / "out"
    assert main([*run, "--out", str(out), "--checkpoint", str(weights), "--device", "cpu", "--quiet"]) == 3

    assert len(list((out / "cases").iterdir())) == len(CASES)
    for path, (task, code) in CASES.items():
        case = out / "cases" / f"{Path(path).name.partition('.')[0]}_{task}"
        record = json.loads((case / "result.json").read_text())
        assert record["code"] == code, path
        if code:
            assert [file.name for file in case.iterdir()] == ["result.json"]
            continue
        assert record["status"] in ("ok", "ok_empty", "review"), path
        mask = nibabel.load(case / record["files"]["mask"])
        source = itk_image(folder / path)
        assert mask.shape == source.GetSize(), path
        np.testing.assert_allclose(mask.header.get_zooms(), source.GetSpacing(), rtol=1e-4)
        assert (case / record["files"]["overlay"]).stat().st_size > 0
