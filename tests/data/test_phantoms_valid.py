"""Phantoms as DICOM, and segmentations of them, are valid objects: an independent validator finds no error in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.io.dicom.derived_object import Algorithm, series_number
from monai_tpseg.io.dicom.segmentation import write_segmentation
from monai_tpseg.testing.phantoms import (
    make_phantom,
    make_volume,
    write_dicom_cine,
    write_dicom_picture,
    write_dicom_series,
)
from monai_tpseg.transforms import LoadMedicalImage

# Two modules of the validator contradict each other: these must be there, and may not, in an object that is whole
_CONCATENATION = re.compile(r"<(InConcatenation(Number|TotalNumber)|ConcatenationFrameOffsetNumber)>")
# Slices of ultrasound carry a plane, as three-dimensional probes write it: allowed, and said
_EXTENDED = ("not present in standard DICOM IOD", "Standard Extended SOP Class")
SERIES = ("lung_infection", "brain_tumor", "thyroid_nodule", "wet_amd")
KINDS = [*(f"picture {task}" for task in TASK_NAMES), *(f"series {task}" for task in SERIES), "cine breast_lesion"]


def findings(dciodvfy: str, path: Path) -> list[str]:
    """What the validator has against an object."""
    said = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False).stderr
    return [line for line in said.splitlines() if line.startswith(("Error", "Warning"))]


def write(kind: str, folder: Path) -> Path:
    """Return one DICOM file of a phantom."""
    form, task = kind.split()
    if form == "picture":
        return write_dicom_picture(make_phantom(task, 1, 40), folder / "a.dcm")
    volume = make_volume(task, 1, (32, 32, 6))
    if form == "cine":
        return write_dicom_cine(volume, folder / "a.dcm")
    return sorted(write_dicom_series(volume, folder / "series").iterdir())[0]


@pytest.mark.parametrize("kind", KINDS)
def test_phantoms_are_valid(tmp_path: Path, dciodvfy: str, kind: str) -> None:
    found = findings(dciodvfy, write(kind, tmp_path))
    plain = [line for line in found if not any(words in line for words in _EXTENDED)]
    assert [line for line in plain if not ("wet_amd" in kind and _CONCATENATION.search(line))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_segmentations_are_valid(tmp_path: Path, dciodvfy: str, kind: str) -> None:
    path = write(kind, tmp_path)
    source = path.parent if kind.startswith("series") else path
    image = LoadMedicalImage()(source)
    lesions = np.zeros(image.shape[1:], np.int32)
    lesions[8:12, 8:12] = 1
    lesions[20:23, 20:24] = 2
    made_by = Algorithm("1", "a" * 64, "b" * 64)
    write_segmentation(tmp_path / "seg.dcm", lesions, image.meta, kind.split()[1], "c", made_by)
    assert findings(dciodvfy, tmp_path / "seg.dcm") == []
    assert pydicom.dcmread(tmp_path / "seg.dcm").ContentCreatorName == ""


@pytest.mark.parametrize("source", [None, "", "1", 0, -5, 2**31 - 1, "-2147483648", "no number", "1e400", 10**30])
def test_series_numbers_of_tasks_differ_and_fit(source: object) -> None:
    tasks = (*TASK_NAMES, "liver_lesion", "kidney_lesion", "spleen")
    numbers = [series_number(source, task) for task in tasks]
    assert len(set(numbers)) == len(tasks)
    assert all(0 <= number < 2**31 for number in numbers)
    assert series_number(3, "wet_amd") == 1003
