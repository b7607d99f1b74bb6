"""Comparison of the studies of one patient: alignment, matched lesions, and their changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from monai_tpseg.follow.changes import Change, Tracker, rows_of
from monai_tpseg.follow.matching import Group, Place, match_lesions
from monai_tpseg.follow.pairing import Course
from monai_tpseg.follow.registration import Alignment, RegistrationError, Scan, align
from monai_tpseg.follow.visits import Visit, placed_lesions
from monai_tpseg.io.errors import ReadError
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["REASONS", "TOLERANCE", "Comparison", "Followed", "compare_course"]

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


def compare_course(patient: int, course: Course, tolerance: float, register: bool) -> Followed:
    """Compare consecutive studies of a course.

    Args:
        patient: number of the patient.
        course: studies in chronological order.
        tolerance: see `match_lesions`.
        register: whether to register scans with different frames of reference.
    """
    one = Followed(patient, course.visits[0].task, course.visits)
    one.tracker.begin(course.visits[0])
    for place, (first, second) in enumerate(zip(course.visits, course.visits[1:], strict=False), start=1):
        groups: list[Group] = []
        alignment, reason, measured = None, course.reason, {}
        try:
            if not reason:
                alignment, groups = _compare(first, second, tolerance, register)
                measured = alignment.measured
        except RegistrationError as refused:
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
        raise RegistrationError("no_place")
    one, two = (Place(*placed_lesions(visit)) for visit in (first, second))
    alignment = _alignment(first, second, register)
    return alignment, match_lesions(one, two, alignment.matrix, tolerance)


def _alignment(first: Visit, second: Visit, register: bool) -> Alignment:
    if first.frame and first.frame == second.frame:
        return Alignment(np.eye(4), "frame_of_reference", {})
    if not register:
        raise RegistrationError("not_registered")
    return align(_scan(first), _scan(second))


def _scan(visit: Visit) -> Scan:
    if visit.source is None:
        raise RegistrationError("no_source")
    try:
        image = LoadMedicalImage("image", visit.record["decisions"]["plane"])(visit.source)
    except ReadError as error:
        raise RegistrationError("no_source") from error
    return Scan(image[0].numpy(), np.asarray(image.affine, dtype=np.float64))
