"""Enhanced objects with a single frame, one file per slice, converted to the attribute layout of plain slices."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["flatten_single_frame"]

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_SEQUENCES = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("PlanePositionVolumeSequence", "PlaneOrientationVolumeSequence"),
    *("FrameContentSequence", "MREchoSequence", "MRDiffusionSequence", "TemporalPositionSequence"),
    *("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"),
    "PixelValueTransformationSequence",
)
_MAPPING = "RealWorldValueMappingSequence"  # contains the values of a frame in its items
_AS_PATIENT = {  # enhanced ultrasound has positions in its own volume coordinates
    "ImagePositionVolume": "ImagePositionPatient",
    "ImageOrientationVolume": "ImageOrientationPatient",
}


def flatten_single_frame(dataset: Any) -> None:
    """Move the functional groups of a single-frame object to its top level, in place.

    Slices in separate files then form a series, however they store their positions. The per-frame group takes
    precedence over the shared group. Multi-frame objects, and objects with several groups, are unchanged.

    Args:
        dataset: a DICOM object.
    """
    groups = [dataset.get(keyword) or () for keyword in _GROUPS]
    if not any(groups) or str(dataset.get("NumberOfFrames") or 1) != "1" or max(map(len, groups)) > 1:
        return
    for group in (item for items in groups for item in items):
        for element in (one for name in _SEQUENCES if group.get(name) for one in group[name].value[0]):
            if element.VR == "SQ" or element.value in (None, ""):
                continue
            keyword = _AS_PATIENT.get(element.keyword)
            if keyword is None:
                dataset.add(copy.copy(element))
            else:
                setattr(dataset, keyword, element.value)
        for element in group:  # the private ones tell e.g. that the frame is a mosaic
            if element.keyword == _MAPPING or (element.tag.is_private and element.tag not in dataset):
                dataset.add(copy.copy(element))
    for keyword in (*_GROUPS, "NumberOfFrames"):
        if keyword in dataset:
            delattr(dataset, keyword)
