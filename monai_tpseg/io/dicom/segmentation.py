"""DICOM segmentations: one segment a lesion, on the frames of the source, the same bytes each time."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import torch
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import ExplicitVRLittleEndian

from monai_tpseg.catalogue import CATEGORY, TASK_NAMES, Code, Task, get_task
from monai_tpseg.files import complete
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.frame_datasets import name_sources, stand_ins, taken_at
from monai_tpseg.io.dicom.frames import Frame, source_frames
from monai_tpseg.io.dicom.tracking import SEGMENTS, tracking_id
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import guarded
from monai_tpseg.io.source_grid import on_source_grid

__all__ = [
    "ARTIFICIAL_INTELLIGENCE",
    "RESEARCH_USE",
    "Algorithm",
    "Identifiers",
    "SegmentationError",
    "check_references",
    "identifiers",
    "sct",
    "series_number",
    "write_segmentation",
]

ARTIFICIAL_INTELLIGENCE = DicomCode("123109", "DCM", "Artificial Intelligence")
"""The family of the algorithm."""

RESEARCH_USE = "Research use only; a clinician must check it"
"""What every object says of itself."""

_CYAN = CIELabColor(91.1, -48.1, -14.1)
_STEP = 1000  # between the numbers of series of several tasks
_OTHERS = 2_000_000  # steps that tasks beyond the catalogue share: with 1000 of each, all lie within IS
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


class SegmentationError(ValueError):
    """A source that no DICOM segmentation can refer to; the message holds nothing of its header."""


@dataclass(frozen=True)
class Algorithm:
    """What made a mask, as a DICOM segmentation names it.

    Attributes:
        version: of `monai_tpseg`.
        weights_sha256: digest of the weights.
        config_sha256: digest of what decides a result besides.
        method: name of the network.
        semi_automatic: a person guided it.
        weights: their name and status in the catalogue, empty for one's own.
    """

    version: str
    weights_sha256: str
    config_sha256: str
    method: str = "TP-Seg"
    semi_automatic: bool = False
    weights: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """What decided the mask; commas divide parameters in DICOM."""
        named = {"weights": self.weights.replace(",", ";")} if self.weights else {}
        return {**named, "weights_sha256": self.weights_sha256, "config_sha256": self.config_sha256}


def write_segmentation(
    path: Path, lesions: NDArray[Any], meta: Mapping[str, Any], task: str | Task, name: str, algorithm: Algorithm
) -> None:
    """Write the lesions of a DICOM source as a BINARY segmentation (PS3.3 A.51).

    Frames carry the places and the references of the source frames, and no others. Identifiers derive from those of
    the source, the algorithm and the mask, dates from the source: the same case gives the same bytes. Patient and
    study are copied from the source, as the standard asks.

    Args:
        path: the file.
        lesions: (H, W) or (H, W, D) on the grid of the loaded image: 0 is background, 1, 2, ... the number of a lesion.
        meta: the meta of the image from `LoadMedicalImage`.
        task: the task, which decides the codes, or its name in the catalogue.
        name: of the case, for tracking ids.
        algorithm: what made the mask.

    Raises:
        SegmentationError: the source does not name its study, series and object, or has changed since it was read.
        ValueError: there is no lesion.
    """
    if not lesions.any():
        raise ValueError("A DICOM segmentation needs at least one lesion; an empty mask has none.")
    known = task if isinstance(task, Task) else get_task(task)
    try:
        made = guarded(lambda: _build(lesions, meta, known, name, algorithm), "The source")
    except ReadError as error:
        raise SegmentationError(f"No DICOM segmentation can be made: {error}") from None
    with complete(path) as file:
        made.save_as(file)


def _build(
    lesions: NDArray[Any], meta: Mapping[str, Any], task: Task, name: str, algorithm: Algorithm
) -> highdicom.seg.Segmentation:
    frames = source_frames(meta)
    check_references(frames)
    planes = _planes(lesions, meta)
    header = frames[0].header
    day, time = taken_at(header)
    tracked = identifiers(frames, task, algorithm)
    uid = tracked.beside(hashlib.sha256(planes.tobytes()).hexdigest())
    made = highdicom.seg.Segmentation(
        source_images=stand_ins(frames, _uid("frame of reference", str(header.SeriesInstanceUID))),
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=list(_segments(int(planes.max()), task, name, algorithm, tracked)),
        series_instance_uid=uid("series"),
        series_number=series_number(header.get("SeriesNumber"), task.name),
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer="monai_tpseg",
        manufacturer_model_name=algorithm.method,
        software_versions=f"monai_tpseg {algorithm.version}",
        device_serial_number=algorithm.weights_sha256,
        content_label=task.name.upper()[:16],  # a code string holds no more
        content_description=RESEARCH_USE,
        series_description=f"{algorithm.method} {task.title}, research use only",
        content_date=day,
        content_time=time,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",  # UTF-8 holds what any source may have
    )
    made.ContentCreatorName = ""  # nobody: type 2 of the content identification macro
    name_sources(made, frames)
    _fix(made, uid("dimensions"))
    return made


def series_number(source: Any, task: str) -> int:
    """Return the number of a segmentation's series: within IS, and another one for each task of a source.

    Args:
        source: Series Number of the source; one that is none or below 0 counts as 0.
        task: name of the task: the n-th of the catalogue adds n * 1000, others more.
    """
    try:
        number = max(int(source or 0), 0)
    except (TypeError, ValueError, OverflowError):
        number = 0
    others = len(TASK_NAMES) + 1 + zlib.crc32(task.encode()) % _OTHERS
    return (number + _STEP * (TASK_NAMES.index(task) + 1 if task in TASK_NAMES else others)) % 2**31


def check_references(frames: Sequence[Frame]) -> None:
    """Refuse a source that a result cannot refer to.

    Raises:
        ReadError: `E_FORMAT`, it does not name its study, series or object.
    """
    missing = [key for key in _REFERENCES if not all(frame.header.get(key) for frame in frames)]
    if missing:
        raise ReadError("E_FORMAT", f"The source has no {missing[0]}; repair its header.")


def _planes(lesions: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[np.uint8]:
    """(H, W[, D]) as loaded -> (frames, rows, columns) as stored, lesions beyond `SEGMENTS` joined."""
    joined = np.minimum(lesions, SEGMENTS + 1).astype(np.uint8)
    grid = on_source_grid(torch.from_numpy(joined)[None], meta)
    if str(meta[meta_keys.KIND]) == "picture":
        return grid[None]
    return np.ascontiguousarray(grid.transpose(2, 1, 0))  # (x, y, z): x the columns, y the rows


def _segments(
    count: int, task: Task, name: str, algorithm: Algorithm, uid: Identifiers
) -> Iterator[SegmentDescription]:
    made_by = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.method,
        family=ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        source="monai_tpseg",
        parameters=algorithm.parameters,
    )
    kind = (
        SegmentAlgorithmTypeValues.SEMIAUTOMATIC if algorithm.semi_automatic else SegmentAlgorithmTypeValues.AUTOMATIC
    )
    for lesion in range(1, count + 1):
        tracked = tracking_id(name, task.name, lesion)
        yield SegmentDescription(
            segment_number=lesion,
            segment_label=f"{task.title} {lesion}" if lesion <= SEGMENTS else f"{task.title}, others",
            segmented_property_category=sct(CATEGORY),
            segmented_property_type=sct(task.lesion),
            algorithm_type=kind,
            algorithm_identification=made_by,
            tracking_uid=uid(tracked),
            tracking_id=tracked,
            anatomic_regions=None if task.anatomy is None else [sct(task.anatomy)],
            display_color=_CYAN,
        )


def sct(code: Code) -> DicomCode:
    """Return a concept of SNOMED CT as highdicom takes it."""
    return DicomCode(code.value, "SCT", code.meaning)


def _fix(made: Dataset, dimensions: str) -> None:
    """Put fixed values where highdicom draws an identifier or reads the clock."""
    for item in (*made.DimensionIndexSequence, *made.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = dimensions
    del made.InstanceCreationDate, made.InstanceCreationTime
    for item in made.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime


class Identifiers:
    """Gives the identifiers of one result: the same for the same parts.

    Args:
        parts: what the result derives from.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = tuple(parts)

    def __call__(self, what: str) -> str:
        """Return the UID of `what` in this result."""
        return _uid(what, *self._parts)

    def beside(self, *parts: str) -> Identifiers:
        """Return those of a result that derives from `parts` too."""
        return Identifiers([*self._parts, *parts])


def identifiers(frames: Sequence[Frame], task: Task, algorithm: Algorithm) -> Identifiers:
    """Return the identifiers of what an algorithm finds in a source for a task, whatever it finds."""
    parts = [str(frames[0].header.SeriesInstanceUID), *(f"{f.header.SOPInstanceUID} {f.number}" for f in frames)]
    return Identifiers([*parts, task.name, algorithm.version, algorithm.weights_sha256, algorithm.config_sha256])


def _uid(*parts: str) -> str:
    """A UID from a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(parts)).int}"
