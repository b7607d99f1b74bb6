"""Enhanced objects keep rescale and pixel size in groups of frames; here they are where a plain object has them."""

from __future__ import annotations

from typing import Any

from monai_tpseg.transforms.errors import ReadError

__all__ = ["promote_groups"]

_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


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
