"""Lesions of one patient across several studies: matching and change."""

from __future__ import annotations

from monai_tpseg.follow.follow_up import follow
from monai_tpseg.follow.matching import Group, match_lesions
from monai_tpseg.follow.registration import Alignment, RegistrationError, align

__all__ = ["Alignment", "Group", "RegistrationError", "align", "follow", "match_lesions"]
