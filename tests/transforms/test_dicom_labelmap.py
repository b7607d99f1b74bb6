"""Label map segmentations: read back by highdicom, they hold what the binary encoding holds, in fewer frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from monai_tpseg.catalogue import Task, get_task
from monai_tpseg.io.dicom.derived_object import Algorithm
from monai_tpseg.io.dicom.image_check import is_image
from monai_tpseg.io.dicom.segmentation import LABELMAP_STORAGE, Encoding, write_segmentation
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.results.structured_report import write_structured_report
from monai_tpseg.transforms import LoadMedicalImage
from tests.data.test_phantoms_valid import KINDS, findings, write

MADE_BY = Algorithm("1.2.3", "a" * 64, "b" * 64)
# What a validator that is older than the class has against any object of it
_UNKNOWN_CLASS = ("Information Object Not found", "SegmentNumber of 0", "Referenced SOP Class that is not segmentation")


def case(folder: Path, kind: str) -> tuple[Any, np.ndarray, Task]:
    """A source, and two lesions in it, of which one ends earlier."""
    path = write(kind, folder)
    image = LoadMedicalImage()(path.parent if kind.startswith("series") else path)
    lesions = np.zeros(image.shape[1:], np.int32)
    if lesions.ndim == 3:
        lesions[8:12, 8:12, 1:4], lesions[20:23, 20:24, 3:5] = 1, 2
    else:
        lesions[8:12, 8:12], lesions[20:23, 20:24] = 1, 2
    return image, lesions, get_task(kind.split()[1])


def written(folder: Path, kind: str, encoding: Encoding) -> highdicom.seg.Segmentation:
    image, lesions, task = case(folder, kind)
    path = folder / f"{encoding}.dcm"
    write_segmentation(path, lesions, image.meta, task, "c1", MADE_BY, encoding)
    return highdicom.seg.segread(path)


def unexpected(dciodvfy: str, path: Path) -> list[str]:
    """What the validator has against an object, but for its class."""
    return [line for line in findings(dciodvfy, path) if not any(words in line for words in _UNKNOWN_CLASS)]


def planes(seg: highdicom.seg.Segmentation) -> dict[Any, np.ndarray]:
    """Source object and frame -> its numbers, by the references of the frames and nothing else."""
    found: dict[Any, np.ndarray] = {}
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for group, plane in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        key = (str(source.ReferencedSOPInstanceUID), source.get("ReferencedFrameNumber"))
        number = 1
        if seg.SegmentationType == "BINARY":
            named = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
            number = int(named[0].ReferencedSegmentNumber)
        found[key] = found.get(key, np.zeros_like(plane, np.int32)) + plane.astype(np.int32) * number
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_both_encodings_hold_the_same(tmp_path: Path, dciodvfy: str, kind: str) -> None:
    binary, mapped = (written(tmp_path, kind, encoding) for encoding in ("binary", "labelmap"))
    assert (mapped.SOPClassUID, mapped.SegmentationType, mapped.Modality) == (LABELMAP_STORAGE, "LABELMAP", "SEG")
    assert list(mapped.segment_numbers) == list(binary.segment_numbers) == [1, 2]
    one, two = planes(binary), planes(mapped)
    assert one.keys() == two.keys()
    for key, plane in one.items():
        np.testing.assert_array_equal(plane, two[key])
    assert int(mapped.NumberOfFrames) == len(one) <= int(binary.NumberOfFrames)
    for number in (1, 2):
        for name in ("tracking_id", "tracking_uid", "segment_label", "segmented_property_type", "anatomic_regions"):
            assert getattr(mapped.get_segment_description(number), name) == getattr(
                binary.get_segment_description(number), name
            )
    for index in mapped.DimensionIndexSequence:
        assert index.DimensionOrganizationUID == mapped.DimensionOrganizationSequence[0].DimensionOrganizationUID
    assert len(mapped.DimensionIndexSequence) == 1
    assert {len(np.atleast_1d(g.FrameContentSequence[0].DimensionIndexValues)) for g in
            mapped.PerFrameFunctionalGroupsSequence} == {1}  # fmt: skip
    assert not is_image(mapped)
    assert unexpected(dciodvfy, tmp_path / "labelmap.dcm") == []


def test_places_in_the_patient_are_those_of_the_binary_encoding(tmp_path: Path) -> None:
    binary, mapped = (written(tmp_path, "series lung_infection", encoding) for encoding in ("binary", "labelmap"))
    one, two = (seg.get_volume(combine_segments=True) for seg in (binary, mapped))
    np.testing.assert_allclose(one.affine, two.affine)
    np.testing.assert_array_equal(one.array, two.array)


def test_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    image, lesions, task = case(tmp_path, "series brain_tumor")
    for name in ("one", "two"):
        write_segmentation(tmp_path / name, lesions, image.meta, task, "c1", MADE_BY, "labelmap")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kind", ["picture skin_lesion", "series lung_infection"])
def test_reports_refer_to_the_segments_of_a_label_map(tmp_path: Path, dciodvfy: str, kind: str) -> None:
    image, lesions, task = case(tmp_path, kind)
    seg, sr = tmp_path / "seg.dcm", tmp_path / "sr.dcm"
    write_segmentation(seg, lesions, image.meta, task, "c1", MADE_BY, "labelmap")
    measured = measure_lesions(lesions, np.full(lesions.shape, 0.75), image.meta, task.name, "c1")
    write_structured_report(sr, measured, image.meta, task, "c1", MADE_BY, seg)
    assert unexpected(dciodvfy, sr) == []
    report = highdicom.sr.srread(sr)
    flat = kind.startswith("picture")
    groups = (
        report.content.get_planar_roi_measurement_groups()
        if flat
        else report.content.get_volumetric_roi_measurement_groups()
    )
    mapped = pydicom.dcmread(seg)
    for number, group in enumerate(groups, start=1):
        (reference,) = (
            item.ReferencedSOPSequence[0]
            for item in group[0].ContentSequence
            if item.ValueType == "IMAGE" and item.ReferencedSOPSequence[0].ReferencedSOPClassUID == LABELMAP_STORAGE
        )
        assert reference.ReferencedSOPInstanceUID == mapped.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
        assert "ReferencedFrameNumber" not in reference
    assert len(groups) == 2
