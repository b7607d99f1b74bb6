"""What a DICOM object that derives from a source says: what made it, its identifiers, the number of its series."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.sr.coding import Code as DicomCode

from monai_tpseg.catalogue import TASK_NAMES, Code, Task
from monai_tpseg.io.dicom.frames import Frame
from monai_tpseg.io.errors import ReadError

__all__ = [
    "ARTIFICIAL_INTELLIGENCE",
    "RESEARCH_USE",
    "Algorithm",
    "Identifiers",
    "check_references",
    "derived_uid",
    "identifiers",
    "sct",
    "series_number",
]

ARTIFICIAL_INTELLIGENCE = DicomCode("123109", "DCM", "Artificial Intelligence")
"""The family of the algorithm."""

RESEARCH_USE = "Research use only; a clinician must check it"
"""What every object says of itself."""

_STEP = 1000  # between the numbers of series of several tasks
_OTHERS = 2_000_000  # steps that tasks beyond the catalogue share: with 1000 of each, all lie within IS
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


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


def sct(code: Code) -> DicomCode:
    """Return a concept of SNOMED CT as highdicom takes it."""
    return DicomCode(code.value, "SCT", code.meaning)


class Identifiers:
    """Gives the identifiers of one result: the same for the same parts.

    Args:
        parts: what the result derives from.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = tuple(parts)

    def __call__(self, what: str) -> str:
        """Return the UID of `what` in this result."""
        return derived_uid(what, *self._parts)

    def beside(self, *parts: str) -> Identifiers:
        """Return those of a result that derives from `parts` too."""
        return Identifiers([*self._parts, *parts])


def identifiers(frames: Sequence[Frame], task: Task, algorithm: Algorithm) -> Identifiers:
    """Return the identifiers of what an algorithm finds in a source for a task, whatever it finds."""
    parts = [str(frames[0].header.SeriesInstanceUID), *(f"{f.header.SOPInstanceUID} {f.number}" for f in frames)]
    return Identifiers([*parts, task.name, algorithm.version, algorithm.weights_sha256, algorithm.config_sha256])


def derived_uid(*parts: str) -> str:
    """Return a UID from a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(parts)).int}"
