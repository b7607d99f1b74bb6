"""Functional groups of enhanced objects, flattened so that each frame has its attributes at the top level."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from monai_tpseg.io.dicom.attributes import is_given
from monai_tpseg.io.dicom.image_check import frame_count
from monai_tpseg.io.dicom.repeats import KINDS
from monai_tpseg.io.errors import ReadError
from monai_tpseg.words import count

__all__ = ["frames_of"]

_SEQUENCES = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("FrameContentSequence", "MREchoSequence", "MRDiffusionSequence", "TemporalPositionSequence"),
    *("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"),
    "PixelValueTransformationSequence",
)
_OF_OBJECT = (
    *("Modality", "SeriesInstanceUID", "FrameOfReferenceUID", "SliceThickness"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
)
_MAPPING = "RealWorldValueMappingSequence"  # contains the values of a frame in its items
_PIXELS = 0x0028  # the group that describes pixels


def frames_of(dataset: Any, name: object) -> list[Any]:
    """Return one header per frame of `dataset`, as if each frame were a single-frame object.

    The per-frame group takes precedence over the shared group, and that over the object itself.

    Args:
        dataset: a single-frame or multi-frame object.
        name: name used in error messages.

    Returns:
        headers in the order of the frames; the object itself for each frame if it has no groups.

    Raises:
        ReadError: `E_DECODE`, the number of groups differs from the number of frames.
    """
    frames = frame_count(dataset, name)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or (None,))[0]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if not groups and shared is None:
        return [dataset] * frames
    if groups and len(groups) != frames:
        raise ReadError(
            "E_DECODE", f"{name} describes {count(len(groups), 'frame')} but has {frames}; export it again."
        )
    common = Dataset()
    for element in dataset.group_dataset(_PIXELS):
        common.add(element)
    for keyword in (*_OF_OBJECT, _MAPPING, *KINDS):
        if is_given(dataset, keyword):
            common.add(dataset[keyword])
    _lift(shared, common)
    if not groups:
        return [common] * frames
    return [_frame(common, group) for group in groups]


def _frame(common: Any, group: Any) -> Any:
    frame = Dataset()
    frame.update(common)
    _lift(group, frame)
    return frame


def _lift(group: Any, frame: Any) -> None:
    """Copy the attributes in the items of `group` to the top level of `frame`."""
    for sequence in _SEQUENCES if group is not None else ():
        for element in (group.get(sequence) or (Dataset(),))[0]:
            if not element.is_empty and (element.VR != "SQ" or element.keyword == "ModalityLUTSequence"):
                frame.add(element)
    if group is not None and group.get(_MAPPING):
        frame.add(group[_MAPPING])
