"""The DICOM objects of a run, for sending to an archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.results.codes import StudyError
from monai_tpseg.results.folder import read_result
from monai_tpseg.studies.case import CASES

__all__ = ["KINDS", "objects_of", "objects_of_run"]

KINDS = ("seg", "sr")
"""Kinds of files in `result.json` that are DICOM objects, in the order of sending: a report refers to segmentations."""


def objects_of(case: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return the DICOM objects of a case, segmentation first.

    Args:
        case: folder of the case.
        record: content of its `result.json`.
    """
    files = record.get("files", {})
    return [case / files[kind] for kind in KINDS if kind in files]


def objects_of_run(out: str | Path) -> list[Path]:
    """Return the DICOM objects of all cases of a run.

    Raises:
        StudyError: the folder contains no run, or a run without DICOM objects.
    """
    folder = Path(out) / CASES
    if not folder.is_dir():
        raise StudyError(f"'{out}' contains no results of tpseg run; give its --out.")
    found: list[Path] = []
    for case in sorted(folder.iterdir()):
        record = read_result(case)
        if record is not None:
            found += objects_of(case, record)
    if not found:
        raise StudyError(
            f"'{out}' holds no DICOM objects: its sources are not DICOM, or --no-seg and --no-sr were given."
        )
    return found
