"""A case that is worked on: what is asked, drawn, undone, kept and exported."""

from __future__ import annotations

from monai_tpseg.annotate.session.session import Session

__all__ = ["Session"]
