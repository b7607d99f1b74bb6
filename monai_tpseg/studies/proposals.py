"""The task that a header proposes: only where modality, part of the body, description and image type fit it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from monai_tpseg.io.headers import Header

__all__ = ["PROPOSED_TASKS", "Proposal", "propose"]

PROPOSED_TASKS: dict[str, str] = {
    "CT": "lung_infection",
    "MR": "brain_tumor",
    "OPT": "wet_amd",
    "ES": "colon_polyp",
    "SM": "adenocarcinoma",
    "GM": "adenocarcinoma",
    "DMS": "skin_lesion",
}
"""DICOM modality -> the only task of the catalogue that fits. US shows thyroid or breast, and XC any skin or wound:
those are not guessed."""

_REGIONS: Mapping[str, frozenset[str]] = {
    "lung_infection": frozenset({"chest"}),
    "brain_tumor": frozenset({"head"}),
    "wet_amd": frozenset({"eye"}),
    "colon_polyp": frozenset({"colon"}),
    "adenocarcinoma": frozenset({"colon"}),
}
"""Task -> regions of the body of which a header must name one, if it names any; a skin lesion may lie anywhere."""

_OTHERS: Mapping[str, frozenset[str]] = {
    "lung_infection": frozenset({"whole body"}),
    "brain_tumor": frozenset({"whole body"}),
    "wet_amd": frozenset({"cornea"}),
}
"""Task -> regions that speak against it even beside its own."""


class Proposal(NamedTuple):
    """A task, or none and why."""

    task: str
    note: str


def propose(header: Header) -> Proposal:
    """Return the task that a header of DICOM proposes, or none and what to do about it."""
    task = PROPOSED_TASKS.get(header.modality, "")
    if not task:
        return Proposal("", "the modality may show several things; name the task")
    if header.aside:
        return Proposal("", "called a localizer, a projection, a map, a monitoring scan or a report; name the task")
    own, others = _REGIONS.get(task), _OTHERS.get(task, frozenset())
    for named in header.regions:
        if named & others or (own is not None and not named & own):
            return Proposal("", f"of another part of the body ({', '.join(sorted(named))}); name the task")
    return Proposal(task, "")
