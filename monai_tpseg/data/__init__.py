"""Data: lists of cases, samplers, and the phantoms that serve as sample data."""

from __future__ import annotations

from monai_tpseg.data.cache import CachedCases
from monai_tpseg.data.datalists import DatalistError, read_datalist, task_rows
from monai_tpseg.data.samplers import TaskBalancedSampler

__all__ = ["CachedCases", "DatalistError", "TaskBalancedSampler", "read_datalist", "task_rows"]
