"""Lesions of one patient in several studies: which is which, and how each has changed."""

from __future__ import annotations

from monai_tpseg.follow.comparison import follow
from monai_tpseg.follow.matching import Group, match_lesions
from monai_tpseg.follow.registration import Alignment, NotSafe, align

__all__ = ["Alignment", "Group", "NotSafe", "align", "follow", "match_lesions"]
