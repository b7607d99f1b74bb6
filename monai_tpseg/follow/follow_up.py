"""Follow-up of run folders: tables, a record and a page of the changes of every patient."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_tpseg.files import check_folder, write_atomically
from monai_tpseg.follow.changes import COLUMNS
from monai_tpseg.follow.comparison import REASONS, TOLERANCE, Followed, compare_course
from monai_tpseg.follow.follow_page import write_page
from monai_tpseg.follow.pairing import Course, courses
from monai_tpseg.follow.visits import read_visits
from monai_tpseg.results.codes import StudyError

__all__ = ["CHANGES", "FOLLOWED", "LESIONS", "check_tolerance", "follow"]

CHANGES, LESIONS, FOLLOWED = "changes.csv", "tracked_lesions.csv", "follow.json"
"""File names of the tables and of the record in the folder of a follow-up; the page is beside them."""


def check_tolerance(tolerance: float) -> None:
    """Check the greatest distance of two lesions that match without overlap.

    Args:
        tolerance: in mm.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"--tolerance must be 0 mm or more, got {tolerance:g}.")


def follow(
    outs: Sequence[str | Path], out: str | Path, tolerance: float = TOLERANCE, register: bool = True
) -> list[Followed]:
    """Compare the studies of each patient, and write `changes.csv`, `tracked_lesions.csv`, `follow.json` and the page.

    Args:
        outs: one or two output folders of `tpseg run`, the earlier one first.
        out: folder of the follow-up, created if necessary.
        tolerance: see `match_lesions`.
        register: whether to register scans with different frames of reference.

    Raises:
        StudyError: a folder is given twice or contains no masks, a table is damaged, or no patient has two studies.
        ValueError: see `check_tolerance`.
        OSError: `out` cannot be written.
    """
    check_tolerance(tolerance)
    check_folder(out, out, "--out")
    if len({Path(folder).resolve() for folder in outs}) < len(outs):
        raise StudyError(f"'{outs[0]}' is given twice; give two runs, or one that contains several dates.")
    visits = [visit for run, folder in enumerate(outs) for visit in read_visits(folder, run)]
    found = courses(visits)
    if not found:
        raise StudyError(
            "No two cases are known to belong to one patient: DICOM needs the same Patient ID, other files the same "
            "path below the folder that was segmented; or give two runs of one case each."
        )
    followed = [compare_course(patient, course, tolerance, register) for patient, course in _numbered(found)]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    changes = [change for one in followed for comparison in one.comparisons for change in comparison.changes]
    write_atomically(folder / CHANGES, _csv(COLUMNS, [change.cells() for change in changes]))
    write_atomically(folder / LESIONS, _tracked(followed))
    record = {"schema": 1, "tolerance_mm": tolerance, "patients": [_record(one) for one in followed]}
    write_atomically(folder / FOLLOWED, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    write_page(folder, followed, len(visits))
    return followed


def _numbered(found: Sequence[Course]) -> Iterable[tuple[int, Course]]:
    """Number the courses: those of one Patient ID share a number."""
    known: dict[str, int] = {}
    for place, course in enumerate(found):
        name = course.visits[0].patient or course.visits[0].path or f"course {place}"
        yield known.setdefault(name, len(known) + 1), course


def _tracked(followed: Sequence[Followed]) -> bytes:
    """Return one row per lesion and study, with its persistent name, as CSV."""
    columns = (
        "patient",
        "task",
        "study",
        "case",
        "lesion",
        "tracking_id",
        "size",
        "size_unit",
        "diameter",
        "diameter_unit",
    )
    rows = [
        {
            **{"patient": one.patient, "task": one.task, "study": study, "case": visit.case},
            **{key: row[key] for key in columns if key in row},
            "tracking_id": one.tracker.of(visit)[int(row["lesion"])],
        }
        for one in followed
        for study, visit in enumerate(one.visits, start=1)
        for row in visit.rows
    ]
    return _csv(columns, rows)


def _record(one: Followed) -> dict[str, Any]:
    return {
        "patient": one.patient,
        "task": one.task,
        "cases": [visit.case for visit in one.visits],
        "comparisons": [
            {
                "study_a": comparison.studies[0],
                "study_b": comparison.studies[1],
                "days": comparison.days,
                "safe": not comparison.reason,
                "reason": comparison.reason,
                "explanation": REASONS[comparison.reason],
                "method": comparison.alignment.method if comparison.alignment else "",
                "check": dict(comparison.measured),
                "matrix": comparison.alignment.matrix.round(6).tolist() if comparison.alignment else None,
                "changes": [asdict(change) for change in comparison.changes],
            }
            for comparison in one.comparisons
        ],
    }


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode(errors="replace")
