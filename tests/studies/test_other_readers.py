"""What other programs make of our DICOM objects, as the table in docs/outputs.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from tests.studies.test_structured_report import load, report


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Segmentation and report of two lesions in a CT series of six slices, of which three hold lesion."""
    folder = tmp_path_factory.mktemp("objects")
    source = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), folder / "series")
    mask = np.zeros(load(source).shape[1:], np.uint8)
    mask[4:9, 10:13, 1:3] = 1
    mask[20:22, 20:23, 2:4] = 1
    path = report(folder, source, "lung_infection", mask)
    return folder / "seg.dcm", path


def test_simpleitk_stacks_the_frames_of_all_segments(objects: tuple[Path, Path]) -> None:
    source = pydicom.dcmread(sorted(objects[0].parent.joinpath("series").iterdir())[0])
    image = sitk.ReadImage(str(objects[0]))
    assert image.GetSize() == (32, 32, 4)  # two slices of each of two segments, one after the other
    assert image.GetSpacing()[:2] == tuple(float(x) for x in source.PixelSpacing)
    assert image.GetSpacing()[2] == 1.0 != float(source.SliceThickness)


def test_highdicom_puts_them_where_they_belong(objects: tuple[Path, Path]) -> None:
    volume = highdicom.seg.segread(objects[0]).get_volume(combine_segments=True)
    source = pydicom.dcmread(sorted(objects[0].parent.joinpath("series").iterdir())[0])
    assert volume.spacing[0] == pytest.approx(float(source.SliceThickness))
    assert sorted(np.unique(volume.array)) == [0, 1, 2]


def test_dcmtk_renders_the_report(objects: tuple[Path, Path], tmp_path: Path) -> None:
    program = shutil.which("dsr2html")
    if program is None:
        if os.environ.get("TPSEG_REQUIRE_TOOLS"):
            pytest.fail("no dsr2html, which TPSEG_REQUIRE_TOOLS asks for")
        pytest.skip("no dsr2html on this machine (Debian: apt-get install dcmtk)")
    page = tmp_path / "report.html"
    subprocess.run([program, str(objects[1]), str(page)], check=True, capture_output=True)
    text = page.read_text()
    for word in ("Inflammation", "68343.75 mm3", "Present"):  # 30 voxels of 11.25 x 11.25 x 18 mm
        assert word in text
