"""Task proposals from headers, if modality, body part, description and image type match only one task."""

from __future__ import annotations

from typing import NamedTuple

from monai_tpseg.catalogue import TASKS
from monai_tpseg.io.headers import Header

__all__ = ["PROPOSED_TASKS", "Proposal", "propose"]

PROPOSED_TASKS = {term: task for task in TASKS for term in task.proposed_by}
"""(0008,0060) -> the task that it proposes."""


class Proposal(NamedTuple):
    """A proposed task, or the reason why there is none."""

    task: str
    note: str


def propose(header: Header) -> Proposal:
    """Return the task proposed by a DICOM header, or the next action if there is none."""
    task = PROPOSED_TASKS.get(header.modality)
    if task is None:
        return Proposal("", "the modality may show several things; name the task")
    if header.auxiliary:
        return Proposal("", "called a localizer, a projection, a map, a monitoring scan or a report; name the task")
    for named in header.regions:
        if named & {*task.other_regions} or (task.regions and not named & {*task.regions}):
            return Proposal("", f"of another part of the body ({', '.join(sorted(named))}); name the task")
    return Proposal(task.name, "")
