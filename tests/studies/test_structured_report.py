"""Structured reports say what the table of lesions says, refer to the segmentation, and are valid objects."""

from __future__ import annotations

import csv
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import torch

from monai_tpseg.catalogue import LESION, Modality, Task
from monai_tpseg.io.dicom.derived_object import Algorithm
from monai_tpseg.io.dicom.frames import source_frames
from monai_tpseg.io.dicom.object import read_dataset
from monai_tpseg.io.dicom.segmentation import write_segmentation
from monai_tpseg.io.meta_keys import FORMAT
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.results.case_files import write_segmented
from monai_tpseg.results.folder import provenance
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.results.structured_report import write_structured_report
from monai_tpseg.segment import Segmentation, find_lesions
from monai_tpseg.studies import Model, Run, Settings, find_entries, prepare_output
from monai_tpseg.testing.phantoms import make_volume, write_dicom_picture, write_dicom_series
from monai_tpseg.testing.phantoms.scene import make_phantom
from monai_tpseg.transforms.transfer import load_case
from tests.data.test_phantoms_valid import KINDS, findings, write

MADE_BY = Algorithm("1", "a" * 64, "b" * 64)
ABSENT, PRESENT = "272519000", "52101004"


def load(source: Path) -> Any:
    return load_case(source)


def report(
    folder: Path,
    source: Path,
    task: str | Task,
    mask: np.ndarray[Any, Any],
    with_seg: bool = True,
    dice: float | None = None,
) -> Path:
    """Write segmentation and report of a mask, and return the report."""
    meta = load(source).meta
    name = task if isinstance(task, str) else task.name
    lesions = find_lesions(mask, meta)
    measured = measure_lesions(lesions, np.full(mask.shape, 0.75), meta, name, "case")
    seg = folder / "seg.dcm" if mask.any() and with_seg else None
    if seg is not None:
        write_segmentation(seg, lesions, meta, task, "case", MADE_BY)
    write_structured_report(folder / "sr.dcm", measured, meta, task, "case", MADE_BY, seg, dice)
    return folder / "sr.dcm"


def values(group: Any) -> dict[str, tuple[float, str]]:
    return {m.name.meaning: (float(m.value), m.unit.value) for m in group.get_measurements()}


def evaluation(group: Any, code: str) -> str:
    """The answer to a coded question of a group."""
    (found,) = [
        item.ConceptCodeSequence[0].CodeValue
        for item in group[0].ContentSequence
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == code
    ]
    return str(found)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reports_are_valid_and_the_same_again(tmp_path: Path, dciodvfy: str, kind: str, empty: bool) -> None:
    path = write(kind, tmp_path)
    source = path.parent if kind.startswith("series") else path
    mask = np.zeros(load(source).shape[1:], np.uint8)
    if not empty:
        mask[8:12, 8:12] = mask[20:23, 20:24] = 1
    (tmp_path / "again").mkdir()
    one, two = (report(folder, source, kind.split()[1], mask) for folder in (tmp_path, tmp_path / "again"))
    assert findings(dciodvfy, one) == []
    assert one.read_bytes() == two.read_bytes()


def test_numbers_of_a_volume_and_what_they_refer_to(tmp_path: Path) -> None:
    source = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "series")
    header = pydicom.dcmread(sorted(source.iterdir())[0])
    row, column, depth = (*(float(x) for x in header.PixelSpacing), float(header.SliceThickness))
    mask = np.zeros(load(source).shape[1:], np.uint8)
    mask[4:9, 10:13, 1:3] = 1
    made = highdicom.sr.srread(report(tmp_path, source, "lung_infection", mask))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    (group,) = made.content.get_volumetric_roi_measurement_groups()
    found = values(group)
    assert found["Volume"] == (pytest.approx(30 * row * column * depth), "mm3")
    assert row == column  # so that it does not matter here which axis is which
    diagonal = float(np.hypot(np.hypot(5 * column, 3 * row), 2 * depth))
    assert found["Maximum 3D Diameter of a Mesh"] == (pytest.approx(diagonal, abs=1e-3), "mm")
    assert found["Probability"] == (0.75, "1")
    assert (group.tracking_identifier, group.tracking_uid) == (
        seg.SegmentSequence[0].TrackingID,
        seg.SegmentSequence[0].TrackingUID,
    )
    reference = group.referenced_segment[0].ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (seg.SOPInstanceUID, 1)
    assert evaluation(group, "409774005") == PRESENT
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in made.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    sources = {str(pydicom.dcmread(path).SOPInstanceUID) for path in source.iterdir()}
    assert evidence == {*sources, str(seg.SOPInstanceUID)}
    assert (made.PatientID, made.StudyInstanceUID) == (header.PatientID, header.StudyInstanceUID)
    assert made.Modality == "SR"
    assert made.SeriesNumber != seg.SeriesNumber


def test_highdicom_makes_the_same_document_of_the_whole_content(tmp_path: Path) -> None:
    source = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "series")
    mask = np.zeros(load(source).shape[1:], np.uint8)
    mask[4:9, 10:13, 1:3] = mask[20:24, 20:25, 2:5] = 1
    made = pydicom.dcmread(report(tmp_path, source, "lung_infection", mask, dice=0.8))
    content = pydicom.Dataset()
    names = "ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence", "ContentSequence"
    for name in names:
        setattr(content, name, made[name].value)
    sources = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, source.iterdir())}
    (study,) = made.CurrentRequestedProcedureEvidenceSequence
    first = [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
    ordered = [sources[uid] for item in first if (uid := str(item.ReferencedSOPInstanceUID)) in sources]
    again = highdicom.sr.ComprehensiveSR(
        [*ordered, pydicom.dcmread(tmp_path / "seg.dcm")],
        content,
        made.SeriesInstanceUID,
        int(made.SeriesNumber),
        made.SOPInstanceUID,
        1,
        is_complete=True,
    )  # it refuses content that refers to what is no evidence
    assert len(ordered) == len(sources)
    assert all(again[name] == made[name] for name in (*names, "CurrentRequestedProcedureEvidenceSequence"))


def test_objects_of_one_source_share_its_headers_and_stay_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "in")
    image, mask = load(source), np.zeros((32, 32, 6), np.uint8)
    mask[3:6, 3:6, 1:3] = 1
    apart = report(tmp_path, source, "lung_infection", mask)
    read: list[Path] = []

    def counted(path: Path, **options: Any) -> Any:
        read.append(path)
        return read_dataset(path, **options)

    monkeypatch.setattr("monai_tpseg.io.dicom.frames.read_dataset", counted)
    frames = cache(partial(source_frames, image.meta))
    lesions = find_lesions(mask, image.meta)
    measured = measure_lesions(lesions, np.full(mask.shape, 0.75), image.meta, "lung_infection", "case")
    seg, sr = tmp_path / "shared_seg.dcm", tmp_path / "shared_sr.dcm"
    write_segmentation(seg, lesions, image.meta, "lung_infection", "case", MADE_BY, frames=frames)
    write_structured_report(sr, measured, image.meta, "lung_infection", "case", MADE_BY, seg, frames=frames)
    assert len(read) == 6
    assert seg.read_bytes() == (tmp_path / "seg.dcm").read_bytes()
    assert sr.read_bytes() == apart.read_bytes()


def test_an_empty_mask_is_reported_as_looked_at(tmp_path: Path) -> None:
    source = write_dicom_picture(make_phantom("thyroid_nodule", 1, 40), tmp_path / "a.dcm")
    made = highdicom.sr.srread(report(tmp_path, source, "thyroid_nodule", np.zeros((40, 40), np.uint8)))
    (group,) = made.content.get_image_measurement_groups()
    assert group.get_measurements() == []
    assert evaluation(group, "27925004") == ABSENT
    assert "no lesion found" in made.SeriesDescription
    (image,) = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(source).SOPInstanceUID


@pytest.mark.parametrize("empty", [False, True])
def test_the_expected_dice_is_said_of_the_whole_source(tmp_path: Path, dciodvfy: str, empty: bool) -> None:
    source = write_dicom_picture(make_phantom("skin_lesion", 1, 40), tmp_path / "a.dcm")
    mask = np.zeros((40, 40), np.uint8)
    mask[4:9, 10:13] = not empty
    path = report(tmp_path, source, "skin_lesion", mask, dice=0.8126)
    content = highdicom.sr.srread(path).content
    (group,) = content.get_image_measurement_groups()
    assert values(group) == {"Expected Dice coefficient of the mask": (0.813, "1")}
    assert evaluation(group, "52988006") == (ABSENT if empty else PRESENT)
    assert len(content.get_planar_roi_measurement_groups()) == (not empty)
    designator = "of attribute <Coding Scheme Designator>"
    assert {*findings(dciodvfy, path)} == {  # it says so of every scheme that is not in its list
        f"Warning - Unrecognized defined term <99MONAITPSEG> for value 1 {designator}"
    }
    (scheme,) = pydicom.dcmread(path).CodingSchemeIdentificationSequence
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeName) == ("99MONAITPSEG", "Concepts of monai_tpseg")
    assert scheme.CodingSchemeResponsibleOrganization == "monai_tpseg"


@pytest.mark.parametrize("with_seg", [True, False])
def test_lesions_that_share_a_segment_share_a_group(tmp_path: Path, dciodvfy: str, with_seg: bool) -> None:
    source = write_dicom_picture(make_phantom("skin_lesion", 1, 40), tmp_path / "a.dcm")
    mask = np.zeros((40, 40), np.uint8)
    mask[::4, ::4][:6] = 1  # 60 single pixels
    mask[36:38, 0:2] = 1
    path = report(tmp_path, source, "skin_lesion", mask, with_seg)
    content = highdicom.sr.srread(path).content
    planar, volumetric = content.get_planar_roi_measurement_groups(), content.get_volumetric_roi_measurement_groups()
    groups = [*planar, *volumetric] if with_seg else content.get_image_measurement_groups()
    assert len(groups) == 51
    assert values(groups[0])["Area"] == (4.0, "{pixels}")
    assert values(groups[0])["Long axis"] == (pytest.approx(8**0.5, abs=1e-3), "{pixels}")
    assert values(groups[-1])["Area"] == (11.0, "{pixels}")
    assert values(groups[-1])["Number of lesions (observable entity)"] == (11.0, "1")
    assert groups[-1].tracking_identifier == "case_skin_lesion_others"
    assert findings(dciodvfy, path) == []


def test_lesions_of_an_irregular_series_refer_to_their_own_frames(tmp_path: Path) -> None:
    source = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "series")
    names = {}
    for path in source.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] += 9 * (dataset.InstanceNumber < 3)
        dataset.save_as(path)
        names[float(dataset.ImagePositionPatient[2])] = str(dataset.SOPInstanceUID)
    order = [names[height] for height in sorted(names)]
    mask = np.zeros(load(source).shape[1:], np.uint8)
    mask[4:9, 10:13, 1] = 1
    mask[4:6, 10:12, 4] = 1
    made = highdicom.sr.srread(report(tmp_path, source, "lung_infection", mask))
    groups = made.content.get_planar_roi_measurement_groups()
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for group, lesion, place in zip(groups, (1, 2), (1, 4), strict=True):
        frame, image = group.referenced_segmentation_frame
        number = int(frame.ReferencedSOPSequence[0].ReferencedFrameNumber)
        held = seg.PerFrameFunctionalGroupsSequence[number - 1].SegmentIdentificationSequence[0]
        assert held.ReferencedSegmentNumber == lesion
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == order[place]
        assert set(values(group)) == {"Area", "Long axis", "Probability"}


def test_a_run_writes_reports_that_say_what_its_table_says(tmp_path: Path, weights: Path) -> None:
    write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "in" / "series")
    entries = find_entries(tmp_path / "in", "lung_infection")
    found = Model(weights, "cpu").segment(entries[0].source(), "lung_infection").prob
    settings = {"one": Settings(float(found.median())), "two": Settings(0.999999), "three": Settings(sr=False)}
    for out, chosen in settings.items():
        model = Model(weights, "cpu", chosen)
        Run(model, tmp_path / out, quiet=True)(prepare_output(tmp_path / out, entries, "salted", False))
    one, two, three = (next((tmp_path / out / "cases").iterdir()) for out in settings)
    record = json.loads((one / "result.json").read_text())
    with (one / "lesions.csv").open() as table:
        rows = list(csv.DictReader(table))[:50]
    groups = highdicom.sr.srread(one / record["files"]["sr"]).content.get_volumetric_roi_measurement_groups()[:50]
    told = [(g.tracking_identifier, values(g)["Volume"][0], values(g)["Probability"][0]) for g in groups]
    assert told == [(r["tracking_id"], float(r["size"]), float(r["mean_probability"])) for r in rows]
    nothing = json.loads((two / "result.json").read_text())
    assert (nothing["status"], "sr" in nothing["files"], "seg" in nothing["files"]) == ("ok_empty", True, False)
    assert (two / nothing["files"]["sr"]).is_file()
    assert "sr" not in json.loads((three / "result.json").read_text())["files"]


def test_a_source_without_a_study_is_flagged_and_pictures_get_no_report(tmp_path: Path) -> None:
    info = WeightsInfo(("skin_lesion",), {"backbone": "hiera_demo"}, (32, 32))
    made_by = provenance(info, {"preprocessing": ""})
    source = write_dicom_picture(make_phantom("skin_lesion", 1, 40), tmp_path / "a.dcm")
    dataset = pydicom.dcmread(source)
    dataset.StudyInstanceUID = ""
    dataset.save_as(source)
    image = load(source)
    empty = torch.zeros(1, 40, 40)
    found = Segmentation(image, empty, empty, np.zeros((40, 40), np.int32))
    outcome, more = write_segmented(found, "skin_lesion", "c", tmp_path / "out", made_by, Outputs(overlay=False))
    assert "no_seg" in outcome.flags
    assert "sr" not in more["files"]
    image.meta[FORMAT] = "picture"
    outcome, more = write_segmented(found, "skin_lesion", "c", tmp_path / "out", made_by, Outputs(overlay=False))
    assert "no_seg" not in outcome.flags
    assert "sr" not in more["files"]


def test_the_longest_name_of_a_task_fits_into_the_description(tmp_path: Path) -> None:
    task = Task("a" * 32, Modality.DERMOSCOPY, LESION)
    source = write_dicom_picture(make_phantom("skin_lesion", 1, 40), tmp_path / "a.dcm")
    made = pydicom.dcmread(report(tmp_path, source, task, np.zeros((40, 40), np.uint8)))
    assert len(made.SeriesDescription) <= 64
    assert made.SeriesDescription.endswith(": no lesion found, research use only")
