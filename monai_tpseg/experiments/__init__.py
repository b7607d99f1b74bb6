"""Experiments: rows of a comparison as overrides of the training config, their runs, tables and figures."""

from __future__ import annotations

from monai_tpseg.experiments.suite import Row, Run, Suite, SuiteError, read_suite

__all__ = ["Row", "Run", "Suite", "SuiteError", "read_suite"]
