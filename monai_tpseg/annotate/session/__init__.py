"""Annotation sessions: prompts, drawing, undo, persistence and export."""

from __future__ import annotations

from monai_tpseg.annotate.session.session import Session

__all__ = ["Session"]
