"""Data: lists of cases, samplers, and the phantoms that serve as sample data."""

from __future__ import annotations

from monai_tpseg.data.cache import CachedCases
from monai_tpseg.data.datalists import DatalistError, read_datalist, task_rows
from monai_tpseg.data.exemplars import ExemplarCases, ExemplarPool
from monai_tpseg.data.prompts import AddExemplarsd, ClicksToTensord, read_clicks, read_exemplars
from monai_tpseg.data.samplers import TaskBalancedSampler

__all__ = [
    "AddExemplarsd",
    "CachedCases",
    "ClicksToTensord",
    "DatalistError",
    "ExemplarCases",
    "ExemplarPool",
    "TaskBalancedSampler",
    "read_clicks",
    "read_datalist",
    "read_exemplars",
    "task_rows",
]
