"""Comparison of run folders: tables and a page of the changes."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_tpseg.files import write_atomically
from monai_tpseg.follow.changes import COLUMNS, Change, Tracker, rows_of
from monai_tpseg.follow.matching import Group, Place, match_lesions
from monai_tpseg.follow.pairing import Course, courses
from monai_tpseg.follow.registration import Alignment, NotSafe, Scan, align
from monai_tpseg.follow.visits import Visit, placed_lesions, read_visits
from monai_tpseg.io.errors import ReadError
from monai_tpseg.results.codes import StudyError
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["CHANGES", "FOLLOWED", "LESIONS", "REASONS", "Comparison", "Followed", "follow"]

CHANGES, LESIONS, FOLLOWED = "changes.csv", "tracked_lesions.csv", "follow.json"
"""File names of the tables and of the record in the folder of a follow-up; the page is beside them."""

REASONS: dict[str, str] = {
    "": "",
    "other_patient": "the headers name two patients; give runs of one patient, or of several with their Patient IDs",
    "several_series": "several series of one day, whose pairing is unknown; segment one series per study",
    "no_place": "pictures and irregular series have no grid in patient space; compare them by eye",
    "no_source": "the frames of reference differ, and a source needed for registration is no longer where it was",
    "not_registered": "the frames of reference differ, and registration is switched off",
    "registration_failed": "the registration failed its check: the scans may show different regions or patients",
}
"""Reason why the lesions of two studies are not matched -> explanation and next action."""

TOLERANCE = 10.0
"""Tolerance in mm: breathing, and the residual error of a rigid registration."""


@dataclass(frozen=True)
class Comparison:
    """Two consecutive studies.

    Attributes:
        studies: their numbers.
        first: the earlier study.
        second: the later study.
        reason: key of `REASONS`, "" if the lesions were matched.
        alignment: alignment of the patient spaces, or None.
        measured: measurements of the check of a registration.
        changes: rows of the table; only that of all lesions if the lesions were not matched.
    """

    studies: tuple[int, int]
    first: Visit
    second: Visit
    reason: str
    alignment: Alignment | None
    measured: Mapping[str, float]
    changes: tuple[Change, ...]

    @property
    def days(self) -> int | None:
        """Days between the studies; None if unknown."""
        return self.changes[0].days

    @property
    def counts(self) -> Counter[str]:
        """Number of groups of lesions by kind of change."""
        return Counter(change.change for change in self.changes if change.change != "all")


@dataclass
class Followed:
    """One patient and one task.

    Attributes:
        patient: number of the patient.
        task: name of the task.
        visits: studies in chronological order.
        comparisons: comparisons of consecutive studies.
        tracker: names of the lesions.
    """

    patient: int
    task: str
    visits: tuple[Visit, ...]
    comparisons: list[Comparison] = field(default_factory=list)
    tracker: Tracker = field(default_factory=Tracker)


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
        ValueError: the tolerance is negative.
    """
    from monai_tpseg.follow.follow_page import write_page  # imported late: needs jinja2

    if tolerance < 0:
        raise ValueError(f"--tolerance must be 0 mm or more, got {tolerance:g}.")
    if len({Path(folder).resolve() for folder in outs}) < len(outs):
        raise StudyError(f"'{outs[0]}' is given twice; give two runs, or one that contains several dates.")
    visits = [visit for run, folder in enumerate(outs) for visit in read_visits(folder, run)]
    found = courses(visits)
    if not found:
        raise StudyError(
            "No two cases are known to belong to one patient: DICOM needs the same Patient ID, other files the same "
            "path below the folder that was segmented; or give two runs of one case each."
        )
    followed = [_followed(patient, course, tolerance, register) for patient, course in _numbered(found)]
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


def _followed(patient: int, course: Course, tolerance: float, register: bool) -> Followed:
    one = Followed(patient, course.visits[0].task, course.visits)
    one.tracker.begin(course.visits[0])
    for place, (first, second) in enumerate(zip(course.visits, course.visits[1:], strict=False), start=1):
        groups: list[Group] = []
        alignment, reason, measured = None, course.reason, {}
        try:
            if not reason:
                alignment, groups = _compare(first, second, tolerance, register)
                measured = alignment.measured
        except NotSafe as refused:
            reason, measured = refused.reason, refused.measured
        if reason:
            one.tracker.begin(second)
        else:
            one.tracker.carry(first, second, groups)
        studies = place, place + 1
        changes = tuple(rows_of(patient, studies, first, second, groups, one.tracker))
        one.comparisons.append(Comparison(studies, first, second, reason, alignment, measured, changes))
    return one


def _compare(first: Visit, second: Visit, tolerance: float, register: bool) -> tuple[Alignment, list[Group]]:
    if not (first.is_volume and second.is_volume):
        raise NotSafe("no_place")
    one, two = (Place(*placed_lesions(visit)) for visit in (first, second))
    alignment = _alignment(first, second, register)
    return alignment, match_lesions(one, two, alignment.matrix, tolerance)


def _alignment(first: Visit, second: Visit, register: bool) -> Alignment:
    if first.frame and first.frame == second.frame:
        return Alignment(np.eye(4), "frame_of_reference", {})
    if not register:
        raise NotSafe("not_registered")
    return align(_scan(first), _scan(second))


def _scan(visit: Visit) -> Scan:
    if visit.source is None:
        raise NotSafe("no_source")
    try:
        image = LoadMedicalImage("image", visit.record["decisions"]["plane"])(visit.source)
    except ReadError as error:
        raise NotSafe("no_source") from error
    return Scan(image[0].numpy(), np.asarray(image.affine, dtype=np.float64))


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
