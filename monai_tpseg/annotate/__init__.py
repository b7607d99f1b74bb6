"""Masks made by hand with K-Prism's help: the session behind a viewer, and a viewer for this machine alone."""

from __future__ import annotations

from monai_tpseg.annotate.errors import SessionError
from monai_tpseg.annotate.history import Click, Status
from monai_tpseg.annotate.masks import Box, Change
from monai_tpseg.annotate.model import PromptModel
from monai_tpseg.annotate.session import Session

__all__ = ["Box", "Change", "Click", "PromptModel", "Session", "SessionError", "Status"]
