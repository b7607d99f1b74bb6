"""Interactive annotation with K-Prism: annotation sessions, and a viewer for the local machine."""

from __future__ import annotations

from monai_tpseg.annotate.session import Session
from monai_tpseg.annotate.session.history import Click, Status
from monai_tpseg.annotate.session.masks import Box, Change
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.session_error import SessionError

__all__ = ["Box", "Change", "Click", "PromptModel", "Session", "SessionError", "Status"]
