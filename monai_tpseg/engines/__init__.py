"""Engines: what MONAI's trainer and evaluator lack for TP-Seg."""

from __future__ import annotations

from monai_tpseg.engines.optim import TaskAdamW, parameter_groups
from monai_tpseg.engines.prepare import PrepareTaskBatch

__all__ = ["PrepareTaskBatch", "TaskAdamW", "parameter_groups"]
