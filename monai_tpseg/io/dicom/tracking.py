"""What a lesion is called in tables and in DICOM segmentations."""

from __future__ import annotations

__all__ = ["SEGMENTS", "tracking_id"]

SEGMENTS = 50
"""Lesions that get a segment each, the largest first; one more segment holds all others."""


def tracking_id(name: str, task: str, lesion: int) -> str:
    """Return what a lesion is called in `lesions.csv` and in the DICOM segmentation.

    Args:
        name: of the case.
        task: name of the task.
        lesion: 1, 2, ..., the largest first; those beyond `SEGMENTS` share a name, as they share a segment.
    """
    return f"{name}_{task}_{lesion if lesion <= SEGMENTS else 'others'}"
