"""DICOM structured reports: measurements of the lesions of a case (TID 1500), or their absence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import highdicom.sr as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import ExplicitVRLittleEndian

from monai_tpseg.catalogue import CATEGORY, Task, get_task
from monai_tpseg.files import complete
from monai_tpseg.io.dicom.attributes import number
from monai_tpseg.io.dicom.derived_object import (
    ARTIFICIAL_INTELLIGENCE,
    RESEARCH_USE,
    Algorithm,
    Identifiers,
    check_references,
    identifiers,
    sct,
    series_number,
)
from monai_tpseg.io.dicom.explicit_vr import save_explicit
from monai_tpseg.io.dicom.frame_datasets import complete_header, content_date_and_time
from monai_tpseg.io.dicom.frames import Frame, Frames, source_frames
from monai_tpseg.io.dicom.segmentation import LABELMAP_STORAGE, SegmentationError
from monai_tpseg.io.dicom.tracking import SEGMENTS, tracking_id
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import read_safely
from monai_tpseg.results.measurements import Lesion

__all__ = ["write_structured_report"]

_AFTER_SEG = 500  # offset from the series number of a segmentation to that of its report
_UNITS = {
    "mm3": codes.UCUM.CubicMillimeter,
    "mm2": codes.UCUM.SquareMillimeter,
    "mm": codes.UCUM.Millimeter,
    "px": DicomCode("{pixels}", "UCUM", "pixels"),
}
_AREA, _VOLUME = DicomCode("42798000", "SCT", "Area"), DicomCode("118565006", "SCT", "Volume")
_IN_PLANE, _IN_SPACE = codes.SCT.LongAxis, codes.IBSI.Maximum3DDiameterOfAMesh
_PRESENT, _ABSENT = codes.SCT.Present, codes.SCT.Absent
_PROBABILITY = codes.DCM.Probability
_OWN_SCHEME = "99MONAITPSEG"  # for concepts without a standard code
_EXPECTED_DICE = DicomCode("expected_dice", _OWN_SCHEME, "Expected Dice coefficient of the mask")


def _own_scheme() -> pydicom.Dataset:
    """What a reader may learn of our own coding scheme; it has no code registered with HL7 and no UID."""
    scheme = pydicom.Dataset()
    scheme.CodingSchemeDesignator = _OWN_SCHEME
    scheme.CodingSchemeName = "Concepts of monai_tpseg"
    scheme.CodingSchemeResponsibleOrganization = "monai_tpseg"
    return scheme


def write_structured_report(
    path: Path,
    lesions: Sequence[Lesion],
    meta: Mapping[str, Any],
    task: str | Task,
    name: str,
    algorithm: Algorithm,
    segmentation: Path | None,
    expected_dice: float | None = None,
    frames: Frames | None = None,
) -> None:
    """Write the measurements of a DICOM source as a Comprehensive SR document of template TID 1500.

    Each lesion is a measurement group: volume or area, longest diameter, mean probability. Lesions beyond `SEGMENTS`
    share a group with their sum, as they share a segment. Without a lesion, one group states its absence in the whole
    source.

    Identifiers are derived from those of the source, the algorithm and the numbers, dates from the source: the same
    case gives the same bytes.

    Args:
        path: output file.
        lesions: lesions from `measure_lesions`.
        meta: metadata of the image from `LoadMedicalImage`.
        task: the task, which determines the codes, or its name in the catalogue.
        name: name of the case, for tracking ids.
        algorithm: the algorithm that made the mask.
        segmentation: segmentation from `write_segmentation`, or None.
        expected_dice: expected Dice of the mask, in [0, 1], or None if unknown.
        frames: see `write_segmentation`.

    Raises:
        SegmentationError: the UID of study, series or object is missing, or the source has changed since it was read.
    """
    known = task if isinstance(task, Task) else get_task(task)
    seg = None if segmentation is None else pydicom.dcmread(segmentation)
    read = frames or partial(source_frames, meta)
    try:
        made = read_safely(lambda: _build(lesions, read, known, name, algorithm, seg, expected_dice), "The source")
    except ReadError as error:
        raise SegmentationError(f"No structured report can be made: {error}") from None
    with complete(path) as file:
        save_explicit(made, file)


def _build(
    lesions: Sequence[Lesion],
    read: Frames,
    task: Task,
    name: str,
    algorithm: Algorithm,
    seg: Dataset | None,
    expected_dice: float | None,
) -> Dataset:
    frames = read()
    check_references(frames)
    header = frames[0].header
    day, time = content_date_and_time(header)
    numbers = hashlib.sha256(repr(([astuple(lesion) for lesion in lesions], expected_dice)).encode()).hexdigest()
    uid = identifiers(frames, task, algorithm)
    own = uid.beside("structured report", numbers, "" if seg is None else str(seg.SOPInstanceUID))
    groups = _Groups(frames, task, name, algorithm, seg, uid)
    report = hd.MeasurementReport(
        observation_context=_context(algorithm),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=list(groups.of(lesions, expected_dice)),
        title=codes.DCM.ImagingMeasurementReport,
    )
    measurements = report[0].ContentSequence[-1]  # most of the document
    content = measurements.ContentSequence
    measurements.ContentSequence = []  # ComprehensiveSR copies its content and traverses it several times
    made = hd.ComprehensiveSR(
        evidence=[complete_header(header), *_others(frames), *([] if seg is None else [seg])],
        content=report,
        series_instance_uid=own("series"),
        series_number=(series_number(number(header, "SeriesNumber"), task.name) + _AFTER_SEG) % 2**31,
        sop_instance_uid=own("instance"),
        instance_number=1,
        **algorithm.equipment,
        is_complete=True,
        series_description=_description(f"{algorithm.method} {task.title}", bool(lesions)),
        content_date=day,
        content_time=time,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",  # UTF-8 covers the text of any source
    )
    measurements.ContentSequence = content
    if expected_dice is not None:
        made.CodingSchemeIdentificationSequence = [_own_scheme()]
    del made.InstanceCreationDate, made.InstanceCreationTime  # the clock's
    for item in made.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    return made


def _description(what: str, found: bool) -> str:
    """The series description; at most 64 characters."""
    end = f"{' report' if found else ': no lesion found'}, research use only"
    return what[: 64 - len(end)] + end


def _others(frames: Sequence[Frame]) -> Iterator[Dataset]:
    """The objects of a source after its first."""
    seen = {str(frames[0].header.SOPInstanceUID)}
    for frame in frames:
        if str(frame.header.SOPInstanceUID) not in seen:
            seen.add(str(frame.header.SOPInstanceUID))
            yield frame.header


def _context(algorithm: Algorithm) -> hd.ObservationContext:
    """The observer: a device with these weights, not a person."""
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=Identifiers(["device", algorithm.weights_sha256])("observer"),
        name=algorithm.method,
        manufacturer_name="monai_tpseg",
        model_name=f"{algorithm.method}, {RESEARCH_USE}",
        serial_number=algorithm.weights_sha256,
    )
    observer = hd.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.ObservationContext(observer_device_context=observer)


class _Groups:
    """The measurement groups of a report."""

    def __init__(
        self,
        frames: Sequence[Frame],
        task: Task,
        name: str,
        algorithm: Algorithm,
        seg: Dataset | None,
        uid: Identifiers,
    ) -> None:
        self.frames, self.task, self.name, self.seg, self.uid = frames, task, name, seg, uid
        self.algorithm = hd.AlgorithmIdentification(
            name=algorithm.method,
            version=algorithm.version,
            parameters=[f"{key}={value}" for key, value in algorithm.parameters.items()],
            family=ARTIFICIAL_INTELLIGENCE,
            manufacturer="monai_tpseg",
        )

    def of(self, lesions: Sequence[Lesion], expected_dice: float | None) -> Iterator[Any]:
        if not lesions or expected_dice is not None:  # statement about the whole source
            dice = [] if expected_dice is None else [_expected(expected_dice)]
            found = _PRESENT if lesions else _ABSENT
            yield self._group(f"{self.name}_{self.task.name}", [], found, dice)
        for lesion in lesions[:SEGMENTS]:
            yield self._group(lesion.tracking_id, [lesion])
        if lesions[SEGMENTS:]:
            yield self._group(tracking_id(self.name, self.task.name, SEGMENTS + 1), lesions[SEGMENTS:])

    def _group(
        self,
        tracked: str,
        lesions: Sequence[Lesion],
        found: DicomCode = _PRESENT,
        additional: Sequence[hd.Measurement] = (),
    ) -> Any:
        about = {
            "tracking_identifier": hd.TrackingIdentifier(uid=self.uid(tracked), identifier=tracked),
            "finding_type": sct(self.task.lesion),
            "finding_category": sct(CATEGORY),
            "finding_sites": [hd.FindingSite(sct(self.task.anatomy))] if self.task.anatomy else None,
            "algorithm_id": self.algorithm,
            "measurements": [*_measurements(lesions), *additional],
            "qualitative_evaluations": [hd.QualitativeEvaluation(sct(self.task.lesion), found)],
        }
        if self.seg is None or not lesions:
            return hd.MeasurementsAndQualitativeEvaluations(**about, source_images=list(self._sources()))
        number = min(lesions[0].lesion, SEGMENTS + 1)
        if len(lesions) == 1 and _is_flat(lesions[0]):
            return hd.PlanarROIMeasurementsAndQualitativeEvaluations(**about, referenced_segment=self._frame(number))
        segment = hd.ReferencedSegment(
            self.seg.SOPClassUID,
            self.seg.SOPInstanceUID,
            number,
            source_series=hd.SourceSeriesForSegmentation(self.frames[0].header.SeriesInstanceUID),
        )
        return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(**about, referenced_segment=segment)

    def _sources(self) -> Iterator[hd.SourceImageForMeasurementGroup]:
        for header in (self.frames[0].header, *_others(self.frames)):
            yield hd.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)

    def _frame(self, segment: int) -> hd.ReferencedSegmentationFrame:
        """The only frame of the segment of a flat lesion, and its source frame."""
        assert self.seg is not None
        mapped = str(self.seg.SOPClassUID) == LABELMAP_STORAGE
        number, group = self._mapped(segment) if mapped else self._framed(segment)
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = source.get("ReferencedFrameNumber")
        image = hd.SourceImageForSegmentation(
            source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID, None if frame is None else [int(frame)]
        )
        made = hd.ReferencedSegmentationFrame(
            self.seg.SOPClassUID, self.seg.SOPInstanceUID, number, segment, source_image=image
        )
        reference = made[0].ReferencedSOPSequence[0]  # the number of a frame or of a segment, never both (PS3.3 10.3)
        del reference["ReferencedFrameNumber" if mapped else "ReferencedSegmentNumber"]
        return made

    def _framed(self, segment: int) -> tuple[int, Dataset]:
        """Number and functional groups of the only frame of a segment."""
        assert self.seg is not None
        shared = self.seg.SharedFunctionalGroupsSequence[0]
        return next(
            (n, group)
            for n, group in enumerate(self.seg.PerFrameFunctionalGroupsSequence, start=1)
            if segment in (_segment_of(group), _segment_of(shared))
        )

    def _mapped(self, segment: int) -> tuple[int, Dataset]:
        """The same for a label map, whose frames contain several segments, found by their pixels."""
        assert self.seg is not None
        frames = self.seg.pixel_array.reshape(-1, self.seg.Rows, self.seg.Columns)
        number = int(np.flatnonzero((frames == segment).any(axis=(1, 2)))[0])
        return number + 1, self.seg.PerFrameFunctionalGroupsSequence[number]


def _segment_of(group: Dataset) -> int | None:
    """The segment referenced by functional groups: per frame, or shared if there is only one segment."""
    named = group.get("SegmentIdentificationSequence")
    return int(named[0].ReferencedSegmentNumber) if named else None


def _is_flat(lesion: Lesion) -> bool:
    """Whether a lesion is in a picture, or in one slice of an irregular series."""
    return lesion.slice is None or lesion.size_unit == "mm2"


def _expected(dice: float) -> hd.Measurement:
    return hd.Measurement(_EXPECTED_DICE, round(dice, 3), codes.UCUM.NoUnits)


def _measurements(lesions: Sequence[Lesion]) -> Iterator[hd.Measurement]:
    if not lesions:
        return
    first, flat = lesions[0], _is_flat(lesions[0])
    voxels = sum(lesion.voxels for lesion in lesions)
    size = round(sum(lesion.size for lesion in lesions), 3)
    mean = sum(lesion.mean_probability * lesion.voxels for lesion in lesions) / voxels
    yield hd.Measurement(_AREA if flat else _VOLUME, size, _UNITS[first.size_unit])
    if len(lesions) == 1:
        yield hd.Measurement(_IN_PLANE if flat else _IN_SPACE, first.diameter, _UNITS[first.diameter_unit])
    else:
        yield hd.Measurement(codes.SCT.NumberOfLesions, len(lesions), codes.UCUM.NoUnits)
    yield hd.Measurement(_PROBABILITY, round(mean, 4), codes.UCUM.NoUnits, derivation=codes.SCT.Mean)
