"""Identifiers of lesions in tables and DICOM segmentations."""

from __future__ import annotations

__all__ = ["SEGMENTS", "tracking_id"]

SEGMENTS = 50
"""Number of lesions with a segment each, the largest first; one more segment holds all others."""


def tracking_id(name: str, task: str, lesion: int) -> str:
    """Return the identifier of a lesion in `lesions.csv` and in the DICOM segmentation.

    Args:
        name: name of the case.
        task: name of the task.
        lesion: 1, 2, ..., the largest first; lesions beyond `SEGMENTS` share an identifier, as they share a segment.
    """
    return f"{name}_{task}_{lesion if lesion <= SEGMENTS else 'others'}"
