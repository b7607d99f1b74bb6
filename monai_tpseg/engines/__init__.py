"""Engines: what MONAI's trainer and evaluator lack for TP-Seg and K-Prism."""

from __future__ import annotations

from monai_tpseg.engines.optim import TaskAdamW, parameter_groups
from monai_tpseg.engines.prepare_batch import PreparePromptBatch, PrepareTaskBatch
from monai_tpseg.engines.prompt_trainer import PromptTrainer
from monai_tpseg.engines.rounds import ModeMix, train_rounds

__all__ = [
    "ModeMix",
    "PreparePromptBatch",
    "PrepareTaskBatch",
    "PromptTrainer",
    "TaskAdamW",
    "parameter_groups",
    "train_rounds",
]
