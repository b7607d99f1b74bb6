"""Attributes of DICOM objects derived from a source: algorithm, identifiers and series number."""

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
"""Statement in every object."""

_STEP = 1000  # distance between the series numbers of two tasks
_OTHERS = 2_000_000  # steps shared by tasks outside the catalogue: at 1000 each, all numbers fit an IS
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Algorithm:
    """Algorithm identification of a DICOM segmentation.

    Attributes:
        version: of `monai_tpseg`.
        weights_sha256: digest of the weights.
        config_sha256: digest of all other settings that affect the result.
        method: name of the network.
        semi_automatic: whether a person guided it.
        weights: name and status of the weights in the catalogue, empty for other weights.
    """

    version: str
    weights_sha256: str
    config_sha256: str
    method: str = "TP-Seg"
    semi_automatic: bool = False
    weights: str = ""

    @property
    def equipment(self) -> dict[str, str]:
        """Attributes of the general and enhanced equipment modules, as arguments of highdicom's objects."""
        return {
            "manufacturer": "monai_tpseg",
            "manufacturer_model_name": self.method,
            "software_versions": f"monai_tpseg {self.version}",
            "device_serial_number": self.weights_sha256,
        }

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the algorithm, separated by commas as DICOM requires."""
        named = {"weights": self.weights.replace(",", ";")} if self.weights else {}
        return {**named, "weights_sha256": self.weights_sha256, "config_sha256": self.config_sha256}


def series_number(source: Any, task: str) -> int:
    """Return the series number of a segmentation: within the range of IS, and different for each task of a source.

    Args:
        source: Series Number of the source; a missing or negative one counts as 0.
        task: name of the task: the n-th of the catalogue adds n * 1000, others more.
    """
    try:
        number = max(int(source or 0), 0)
    except (TypeError, ValueError, OverflowError):
        number = 0
    others = len(TASK_NAMES) + 1 + zlib.crc32(task.encode()) % _OTHERS
    return (number + _STEP * (TASK_NAMES.index(task) + 1 if task in TASK_NAMES else others)) % 2**31


def check_references(frames: Sequence[Frame]) -> None:
    """Reject a source that a result cannot reference.

    Raises:
        ReadError: `E_FORMAT`, the UID of study, series or object is missing.
    """
    missing = [key for key in _REFERENCES if not all(frame.header.get(key) for frame in frames)]
    if missing:
        raise ReadError("E_FORMAT", f"The source has no {missing[0]}; repair its header.")


def sct(code: Code) -> DicomCode:
    """Return a SNOMED CT concept for highdicom."""
    return DicomCode(code.value, "SCT", code.meaning)


class Identifiers:
    """Identifiers of one result, determined by its parts.

    Args:
        parts: identifiers and digests that the result is derived from.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = tuple(parts)

    def __call__(self, what: str) -> str:
        """Return the UID of `what` in this result."""
        return derived_uid(what, *self._parts)

    def beside(self, *parts: str) -> Identifiers:
        """Return the identifiers of a result that additionally depends on `parts`."""
        return Identifiers([*self._parts, *parts])


def identifiers(frames: Sequence[Frame], task: Task, algorithm: Algorithm) -> Identifiers:
    """Return the identifiers for an algorithm applied to a source for a task, independent of the outcome."""
    parts = [str(frames[0].header.SeriesInstanceUID), *(f"{f.header.SOPInstanceUID} {f.number}" for f in frames)]
    return Identifiers([*parts, task.name, algorithm.version, algorithm.weights_sha256, algorithm.config_sha256])


def derived_uid(*parts: str) -> str:
    """Return a UID from a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(parts)).int}"
