"""DICOM segmentations: one segment per lesion or contour, on the frames of the source, reproducible byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import highdicom
import numpy as np
import torch
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from monai_tpseg.catalogue import CATEGORY, Task, get_task
from monai_tpseg.files import complete
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.attributes import number
from monai_tpseg.io.dicom.derived_object import (
    ARTIFICIAL_INTELLIGENCE,
    RESEARCH_USE,
    Algorithm,
    Identifiers,
    check_references,
    derived_uid,
    identifiers,
    sct,
    series_number,
)
from monai_tpseg.io.dicom.explicit_vr import save_explicit
from monai_tpseg.io.dicom.frame_datasets import content_date_and_time, reference_frames, substitute_datasets
from monai_tpseg.io.dicom.frames import Frames, source_frames
from monai_tpseg.io.dicom.tracking import SEGMENTS, tracking_id
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import read_safely
from monai_tpseg.io.source_grid import on_source_grid

__all__ = ["LABELMAP_STORAGE", "Encoding", "Segment", "SegmentationError", "write_contours", "write_segmentation"]


Encoding = Literal["binary", "labelmap"]
"""Encoding of the segments: one frame per segment and slice, or one frame of numbers per slice."""

LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage (PS3.4 B.5), which pydicom 3.0 does not name."""

_CYAN = CIELabColor(91.1, -48.1, -14.1)


class SegmentationError(ValueError):
    """A source that no DICOM segmentation can reference; the message contains no header values."""


@dataclass(frozen=True)
class Segment:
    """Names of a segment.

    Attributes:
        label: label for people.
        tracking_id: identifier, equal in all segmentations of the case.
        text: description in one sentence, may be empty.
    """

    label: str
    tracking_id: str
    text: str = ""


def write_segmentation(
    path: Path,
    lesions: NDArray[Any],
    meta: Mapping[str, Any],
    task: str | Task,
    name: str,
    algorithm: Algorithm,
    encoding: Encoding = "binary",
    names: Mapping[int, str] = MappingProxyType({}),
    frames: Frames | None = None,
) -> None:
    """Write the lesions of a DICOM source as a segmentation, one segment each: BINARY (PS3.3 A.51), or LABELMAP.

    Frames have the positions and references of the source frames only. Identifiers are derived from those of the
    source, the algorithm and the mask, dates from the source: the same case gives the same bytes. Patient and study
    are copied from the source, as the standard requires.

    Args:
        path: output file.
        lesions: (H, W) or (H, W, D) on the grid of the loaded image: 0 is background, 1, 2, ... the number of a lesion.
        meta: metadata of the image from `LoadMedicalImage`.
        task: the task, which determines the codes, or its name in the catalogue.
        name: name of the case, for tracking ids.
        algorithm: the algorithm that made the mask.
        encoding: `labelmap` needs readers of 2024 or later, since Label Map Segmentation Storage is a new SOP class.
        names: names given to lesions by a person, by number; used as label and tracking id of the segment.
        frames: returns `source_frames(meta)` where several objects of one source share it; by default they are read.

    Raises:
        SegmentationError: the source does not name its study, series and object, or has changed since it was read.
        ValueError: there is no lesion.
    """
    if not lesions.any():
        raise ValueError("A DICOM segmentation needs at least one lesion; an empty mask has none.")
    known = task if isinstance(task, Task) else get_task(task)
    joined = np.minimum(lesions, SEGMENTS + 1).astype(np.uint8)  # further lesions share a segment
    segments = [Segment(*_lesion_names(n, name, known, names)) for n in range(1, int(joined.max()) + 1)]
    read = frames or partial(source_frames, meta)
    _write(path, lambda: _build(_planes(joined, meta), segments, read, known, algorithm, encoding))


def write_contours(
    path: Path,
    contours: Sequence[tuple[str, str, NDArray[Any]]],
    meta: Mapping[str, Any],
    task: str | Task,
    name: str,
    algorithm: Algorithm,
    frames: Frames | None = None,
) -> None:
    """Write nested masks as one BINARY segmentation, one segment each; see `write_segmentation`.

    Args:
        path: output file.
        contours: name (e.g. `inner`), description in one sentence, and mask, (H, W) or (H, W, D) in {0, 1} on the
            grid of the loaded image. Empty masks get no segment.
        meta: see `write_segmentation`.
        task: see `write_segmentation`.
        name: see `write_segmentation`.
        algorithm: see `write_segmentation`.
        frames: see `write_segmentation`.

    Raises:
        SegmentationError: see `write_segmentation`.
        ValueError: all masks are empty.
    """
    known = task if isinstance(task, Task) else get_task(task)
    filled = [one for one in contours if one[2].any()]
    if not filled:
        raise ValueError("A DICOM segmentation of contours needs a contour that is not empty.")
    segments = [
        Segment(f"{known.title}, {word} contour", f"{name}_{known.name}_{word}", text) for word, text, _ in filled
    ]
    read = frames or partial(source_frames, meta)
    _write(path, lambda: _build(
        np.stack([_planes(np.asarray(mask, np.uint8), meta) for *_, mask in filled], axis=-1),
        segments, read, known, algorithm, kind="contours",
    ))  # fmt: skip


def _write(path: Path, build: Callable[[], highdicom.seg.Segmentation]) -> None:
    try:
        made = read_safely(build, "The source")
    except ReadError as error:
        raise SegmentationError(f"No DICOM segmentation can be made: {error}") from None
    with complete(path) as file:
        save_explicit(made, file)


def _lesion_names(lesion: int, name: str, task: Task, names: Mapping[int, str]) -> tuple[str, str]:
    """Label and tracking id of the segment of a lesion."""
    if lesion <= SEGMENTS and names.get(lesion):
        return names[lesion], names[lesion]
    label = f"{task.title} {lesion}" if lesion <= SEGMENTS else f"{task.title}, others"
    return label, tracking_id(name, task.name, lesion)


def _build(
    planes: NDArray[np.uint8],
    segments: Sequence[Segment],
    read: Frames,
    task: Task,
    algorithm: Algorithm,
    encoding: Encoding = "binary",
    kind: str = "",
) -> highdicom.seg.Segmentation:
    """Planes (frames, rows, columns) of numbers, or (frames, rows, columns, segments) in {0, 1}."""
    frames = read()
    check_references(frames)
    header = frames[0].header
    day, time = content_date_and_time(header)
    tracked = identifiers(frames, task, algorithm)
    named = [f"{n} {one.label}" for n, one in enumerate(segments, 1) if one.label == one.tracking_id]  # by a person
    uid = tracked.beside(hashlib.sha256(planes.tobytes()).hexdigest(), *[kind] * bool(kind), *named)
    made = highdicom.seg.Segmentation(
        source_images=substitute_datasets(frames, derived_uid("frame of reference", str(header.SeriesInstanceUID))),
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues(encoding.upper()),
        segment_descriptions=list(_described(segments, task, algorithm, tracked)),
        series_instance_uid=uid("series"),
        series_number=series_number(number(header, "SeriesNumber"), task.name),
        sop_instance_uid=uid("instance"),
        instance_number=1,
        **algorithm.equipment,
        content_label=task.name.upper()[:16],  # maximum length of a code string
        content_description=RESEARCH_USE,
        series_description=f"{algorithm.method} {task.title}{f' {kind}' if kind else ''}, research use only",
        content_date=day,
        content_time=time,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",  # UTF-8 covers the text of any source
    )
    made.ContentCreatorName = ""  # no person: type 2 attribute of the content identification macro
    reference_frames(made, frames)
    _fix(made, uid("dimensions"))
    return made


def _planes(values: NDArray[np.uint8], meta: Mapping[str, Any]) -> NDArray[np.uint8]:
    """(H, W[, D]) as loaded -> (frames, rows, columns) as stored."""
    grid = on_source_grid(torch.from_numpy(values)[None], meta)
    if str(meta[meta_keys.KIND]) == "picture":
        return grid[None]
    return np.ascontiguousarray(grid.transpose(2, 1, 0))  # (x, y, z): x the columns, y the rows


def _described(
    segments: Sequence[Segment], task: Task, algorithm: Algorithm, uid: Identifiers
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
    for n, segment in enumerate(segments, start=1):
        made = SegmentDescription(
            segment_number=n,
            segment_label=segment.label,
            segmented_property_category=sct(CATEGORY),
            segmented_property_type=sct(task.lesion),
            algorithm_type=kind,
            algorithm_identification=made_by,
            tracking_uid=uid(segment.tracking_id),
            tracking_id=segment.tracking_id,
            anatomic_regions=None if task.anatomy is None else [sct(task.anatomy)],
            display_color=_CYAN,
        )
        if segment.text:
            made.SegmentDescription = segment.text
        yield made


def _fix(made: Dataset, dimensions: str) -> None:
    """Replace random identifiers and times of highdicom by fixed values."""
    for item in (*made.DimensionIndexSequence, *made.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = dimensions
    del made.InstanceCreationDate, made.InstanceCreationTime
    for item in made.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
