"""`tpseg train`: from pictures and masks of one's own to weights, by the bundle's own training."""

from __future__ import annotations

from monai_tpseg.training.train_options import TrainingError, TrainOptions
from monai_tpseg.training.training_run import Trained, train

__all__ = ["TrainOptions", "Trained", "TrainingError", "train"]
