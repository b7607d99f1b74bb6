"""Enhanced objects keep rescale and pixel size in groups of frames; here they are where a plain object has them."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from monai_tpseg.transforms.errors import ReadError

__all__ = ["frames_of", "promote_groups"]

_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}

_PLACES = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_MARKS = ("FrameContentSequence", "MREchoSequence", "MRDiffusionSequence", "TemporalPositionSequence")
_KINDS = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_OF_OBJECT = ("Rows", "Columns", "SeriesInstanceUID")


def frames_of(dataset: Any, name: object) -> list[Any]:
    """Return a header for each frame of `dataset`, as if each were an object of its own: place, scale, what it shows.

    Args:
        dataset: an object with functional groups.
        name: what the message calls it.

    Raises:
        ReadError: `E_DECODE`, the number of groups is not that of the frames.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or (Dataset(),)
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != int(dataset.get("NumberOfFrames") or 1):
        raise ReadError("E_DECODE", f"{name} describes {len(groups)} frames and has others; export it again.")
    return [_flat(dataset, shared[0], group) for group in groups]


def _flat(dataset: Any, shared: Any, group: Any) -> Any:
    frame = Dataset()
    for keyword in _OF_OBJECT:
        if keyword in dataset:
            setattr(frame, keyword, dataset[keyword].value)
    for sequence in (*_PLACES, *_MARKS, *_KINDS, "PixelValueTransformationSequence"):
        for items in (shared.get(sequence), group.get(sequence)):
            for element in items[0] if items else ():
                if element.VR != "SQ":
                    frame.add(element)
    return frame


def promote_groups(dataset: Any, name: object) -> None:
    """Copy what holds for all frames of `dataset` from its functional groups to its top level, in place.

    Args:
        dataset: an object whose frames are read without their positions.
        name: what the message calls it.

    Raises:
        ReadError: `E_SERIES_MIXED`, the frames have several scales or pixel sizes.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    for sequence, keywords in _GROUPS.items():
        items = [group[sequence].value[0] for group in (*shared, *frames) if group.get(sequence)]
        for keyword in keywords:
            values = {str(item[keyword].value): item[keyword].value for item in items if keyword in item}
            if len(values) > 1:
                raise ReadError("E_SERIES_MIXED", f"{name} has frames of {len(values)} kinds ({keyword}); split it.")
            for value in values.values():
                setattr(dataset, keyword, value)
