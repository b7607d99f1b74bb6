"""The task that a header proposes: only where modality, part of the body, description and image type fit it alone."""

from __future__ import annotations

from typing import NamedTuple

from monai_tpseg.catalogue import TASKS
from monai_tpseg.io.headers import Header

__all__ = ["PROPOSED_TASKS", "Proposal", "propose"]

PROPOSED_TASKS = {term: task for task in TASKS for term in task.proposed_by}
"""(0008,0060) -> the task that it proposes."""


class Proposal(NamedTuple):
    """A task, or none and why."""

    task: str
    note: str


def propose(header: Header) -> Proposal:
    """Return the task that a header of DICOM proposes, or none and what to do about it."""
    task = PROPOSED_TASKS.get(header.modality)
    if task is None:
        return Proposal("", "the modality may show several things; name the task")
    if header.aside:
        return Proposal("", "called a localizer, a projection, a map, a monitoring scan or a report; name the task")
    for named in header.regions:
        if named & {*task.other_regions} or (task.regions and not named & {*task.regions}):
            return Proposal("", f"of another part of the body ({', '.join(sorted(named))}); name the task")
    return Proposal(task.name, "")
