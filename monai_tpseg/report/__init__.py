"""One page about a run, without a connection to anything else."""

from __future__ import annotations

from monai_tpseg.report.page import write_report

__all__ = ["write_report"]
