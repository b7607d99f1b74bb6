"""Report of a run: one self-contained HTML page."""

from __future__ import annotations

from monai_tpseg.report.page import write_report

__all__ = ["write_report"]
