"""Grouping of cases by patient, in chronological order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monai_tpseg.follow.visits import Visit

__all__ = ["Course", "courses"]


class Course(NamedTuple):
    """The studies of one patient for one task.

    Attributes:
        visits: studies in chronological order.
        reason: reason why their lesions cannot be compared, or "".
    """

    visits: tuple[Visit, ...]
    reason: str = ""


def courses(visits: Sequence[Visit]) -> list[Course]:
    """Group cases by patient and task, leaving out single cases.

    A patient is identified by the Patient ID of DICOM, or for other files by the path relative to the segmented
    folder, which must be the same in two runs. If two runs have one case of a task each, these are paired.

    Args:
        visits: cases of all runs.
    """
    found: list[Course] = []
    for task in dict.fromkeys(visit.task for visit in visits):
        own = [visit for visit in visits if visit.task == task]
        pair = len(own) == 2 and own[0].run != own[1].run
        groups: Iterable[list[Visit]] = [own] if pair else _by_patient(own)
        found += [_course(group) for group in groups if len(group) > 1]
    return found


def _by_patient(visits: Sequence[Visit]) -> list[list[Visit]]:
    groups: dict[tuple[str, str], list[Visit]] = {}
    for visit in visits:
        key = ("patient", visit.patient) if visit.patient else ("path", visit.path or visit.case)
        groups.setdefault(key, []).append(visit)
    return list(groups.values())


def _course(visits: Sequence[Visit]) -> Course:
    dated = all(visit.day is not None for visit in visits)
    ordered = tuple(sorted(visits, key=lambda visit: (str(visit.day) if dated else "", visit.run, visit.case)))
    if len({visit.patient for visit in visits if visit.patient}) > 1:
        return Course(ordered, "other_patient")
    moments = [(visit.day if dated else None, visit.run) for visit in ordered]
    return Course(ordered, "several_series" if len({*moments}) < len(moments) else "")
