"""Several slices at one position, and the attribute that distinguishes them, e.g. echo, phase or b-value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.attributes import as_text
from monai_tpseg.io.dicom.object import Dataset

__all__ = ["KINDS", "Marks", "distinguishing_attribute", "group_equal", "marks_of", "most_repeated", "number_places"]

Marks = tuple[str, ...]
"""The values of `KINDS` in one object, as text."""

KINDS = {  # attribute that distinguishes slices at one position -> its name in messages
    "EchoTime": "echo",
    "EchoNumbers": "echo",
    "EffectiveEchoTime": "echo",
    "TemporalPositionIdentifier": "phase",
    "TemporalPositionIndex": "phase",
    "TemporalPositionTimeOffset": "phase",
    "TriggerTime": "phase",
    "NominalCardiacTriggerDelayTime": "phase",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "direction",
    "InversionTime": "contrast",
    "FlipAngle": "contrast",
    "KVP": "energy",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
    "FrameAcquisitionNumber": "acquisition",
    "ContentTime": "acquisition",
    "FrameAcquisitionDateTime": "acquisition",
    "ImageType": "image type",
    "FrameType": "image type",
}
"""Keyword -> word, the most specific first."""

_SAME_POSITION = 1e-3  # mm along the stacking direction


def marks_of(dataset: Dataset) -> Marks:
    """Return the attributes that may distinguish `dataset` from another slice at its position."""
    return tuple(as_text(dataset, keyword) for keyword in KINDS)


def number_places(places: NDArray[np.float64]) -> list[int]:
    """Return the position number of each slice, from 0; slices at the same position share it.

    Args:
        places: (N,) positions along the stacking direction in mm.
    """
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order], prepend=places[order[:1]]) >= _SAME_POSITION
    numbers = np.empty(len(places), dtype=np.int64)
    numbers[order] = np.cumsum(steps)
    return [int(number) for number in numbers]


def most_repeated(numbers: Sequence[int]) -> int:
    """Return the largest number of slices at one position."""
    return max(Counter(numbers).values(), default=0)


def group_equal(labels: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of equal labels, in the order of first occurrence of each label."""
    groups: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label, []).append(index)
    return list(groups.values())


def distinguishing_attribute(numbers: Sequence[int], marks: Sequence[Marks]) -> tuple[str, list[list[int]]] | None:
    """Return the keyword that separates slices at the same positions, and the groups, or None.

    An attribute counts if its groups explain the repetition: two echoes of three phases are six slices per position.
    Attributes that differ from slice to slice, such as the acquisition time, do not count.

    Args:
        numbers: position number of each slice, see `number_places`.
        marks: distinguishing attributes of each slice, see `marks_of`.
    """
    repeats = most_repeated(numbers)
    for n, keyword in enumerate(KINDS):
        groups = group_equal([mark[n] for mark in marks])
        left = max(most_repeated([numbers[i] for i in group]) for group in groups)
        if len(groups) > 1 and len(groups) * left <= repeats:
            return keyword, groups
    return None
