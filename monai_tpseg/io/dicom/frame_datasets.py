"""Substitute data sets for the frames of a source, which highdicom treats as single images of one spatial series.

highdicom derives a segmentation from source images. It rejects several frames without a frame of reference, and headers
without attributes that the standard requires. Each frame therefore gets a substitute with its position, or with a
placeholder; `reference_frames` then inserts the real references and removes placeholder positions.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import DA, TM

from monai_tpseg.io.dicom.attributes import valid_elements
from monai_tpseg.io.dicom.frames import Frame

__all__ = ["complete_header", "content_date_and_time", "reference_frames", "substitute_datasets"]

_PREFIX = "1.2.3."  # of the substitutes' names, which are never written to a file
_TEXTS = ("PatientID", "PatientName", "AccessionNumber", "StudyID", "ReferringPhysicianName")
_DATES: tuple[tuple[str, Callable[[str], Any]], ...] = (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM))
_PLACES = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_OTHER_SPACES = (
    *("ImageOrientationSlide", "ImageCenterPointCoordinatesSequence", "TotalPixelMatrixRows", "NumberOfFrames"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
)
_POSITION, _TEMPORAL_INDEX, _FRAME_CONTENT = 0x00200032, 0x00209128, 0x00209111


def substitute_datasets(frames: Sequence[Frame], frame_of_reference: str) -> list[Dataset]:
    """Return a substitute for each frame; the first also contains patient, study and equipment.

    Args:
        frames: frames of one source, all of them with positions or none.
        frame_of_reference: UID to use if the source has none.
    """
    return [_substitute_dataset(frame, n, frame_of_reference) for n, frame in enumerate(frames)]


def content_date_and_time(header: Dataset) -> tuple[str, str]:
    """Return date and time for a result: those of the source, so that results are reproducible."""
    for kind in ("Content", "Acquisition", "Series", "Study"):
        day, time = str(header.get(f"{kind}Date") or ""), str(header.get(f"{kind}Time") or "")
        if _reads(DA, day):
            return day, time if _reads(TM, time) else "000000"
    return "19000101", "000000"


def reference_frames(segmentation: Dataset, frames: Sequence[Frame]) -> None:
    """Replace the references to substitutes by those to the frames and remove placeholder positions, in place."""
    by_name = {f"{_PREFIX}{n + 1}": frame for n, frame in enumerate(frames)}
    groups = segmentation.PerFrameFunctionalGroupsSequence
    references = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in groups]
    named = [by_name[str(reference.ReferencedSOPInstanceUID)] for reference in references]  # segments share references
    for reference, frame in zip(references, named, strict=True):
        reference.ReferencedSOPClassUID = frame.header.SOPClassUID
        reference.ReferencedSOPInstanceUID = frame.header.SOPInstanceUID
        if frame.number is not None:
            reference.ReferencedFrameNumber = frame.number
    segmentation.SourceImageSequence = _objects(frames)
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = _objects(frames)
    if not frames[0].placed:
        _unplace(segmentation, [frame.number for frame in named], frames[0].header.get("PatientOrientation"))
    elif not frames[0].thickness:
        del segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness


def _substitute_dataset(frame: Frame, n: int, frame_of_reference: str) -> Dataset:
    header = frame.header
    made = complete_header(header) if n == 0 else Dataset()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"):
        made[keyword] = copy.copy(header[keyword])
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, f"{_PREFIX}{n + 1}"
    made.FrameOfReferenceUID = header.get("FrameOfReferenceUID") if frame.placed else None
    made.FrameOfReferenceUID = made.FrameOfReferenceUID or frame_of_reference
    made.ImagePositionPatient = frame.position if frame.placed else [0, 0, -n]  # highdicom sorts along the normal
    made.ImageOrientationPatient = frame.orientation if frame.placed else [1, 0, 0, 0, 1, 0]
    made.PixelSpacing = frame.spacing if frame.spacing is not None else [1, 1]
    made.SliceThickness = frame.thickness or 1
    return made


def complete_header(header: Dataset) -> Dataset:
    """Return a copy of a header in which everything that a result copies is present and well-formed."""
    made = Dataset()
    for element in valid_elements(header):
        if element.keyword not in (*_PLACES, *_OTHER_SPACES):
            made.add(copy.copy(element))  # the copy's value is replaced below; the header keeps its own
    for keyword in _TEXTS:
        if made.get(keyword) is None:
            setattr(made, keyword, "")
    for keyword, kind in _DATES:
        value = str(made.get(keyword) or "")
        setattr(made, keyword, value if _reads(kind, value) else None)
    made.PatientSex = made.get("PatientSex") if made.get("PatientSex") in ("M", "F", "O") else ""
    return made


def _reads(kind: Callable[[str], Any], value: str) -> bool:
    try:
        return isinstance(kind(value), datetime.date | datetime.time)
    except ValueError:
        return False


def _objects(frames: Sequence[Frame]) -> list[Dataset]:
    """One reference per object, in the order of the frames."""
    found: dict[str, Dataset] = {}
    for frame in frames:
        reference = Dataset()
        reference.ReferencedSOPClassUID = frame.header.SOPClassUID
        reference.ReferencedSOPInstanceUID = frame.header.SOPInstanceUID
        found.setdefault(str(frame.header.SOPInstanceUID), reference)
    return list(found.values())


def _unplace(segmentation: Dataset, numbers: Sequence[int | None], orientation: Any) -> None:
    """Remove positions; frames of a cine are distinguished by their number instead, a single frame needs nothing."""
    groups, indices = segmentation.PerFrameFunctionalGroupsSequence, segmentation.DimensionIndexSequence
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for owner, keyword in (
        *((segmentation, name) for name in ("FrameOfReferenceUID", "PositionReferenceIndicator")),
        (segmentation, "DimensionOrganizationType"),
        *((shared, name) for name in ("PlaneOrientationSequence", "PixelMeasuresSequence")),
        *((group, "PlanePositionSequence") for group in groups),
    ):
        if keyword in owner:
            delattr(owner, keyword)
    segmentation.PatientOrientation = orientation or ""
    where = next(n for n, item in enumerate(indices) if item.DimensionIndexPointer == _POSITION)
    alone = len(indices) == 1  # a label map has no segment index, and one index must remain
    for number, group in zip(numbers, groups, strict=True):
        content = group.FrameContentSequence[0]
        values = [content.DimensionIndexValues] if alone else list(content.DimensionIndexValues)
        if number is None and not alone:
            del values[where]
        else:
            content.TemporalPositionIndex = values[where] = number or 1
        content.DimensionIndexValues = values
    if None in numbers and not alone:
        del indices[where]
    else:
        index = indices[where]
        index.DimensionIndexPointer, index.FunctionalGroupPointer = _TEMPORAL_INDEX, _FRAME_CONTENT
        index.DimensionDescriptionLabel = "Temporal Position Index"
