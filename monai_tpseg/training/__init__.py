"""`tpseg train`: from pictures and masks of one's own to weights, by the bundle's own training."""

from __future__ import annotations

from monai_tpseg.training.asked import Asked, TrainingError
from monai_tpseg.training.run import Trained, train

__all__ = ["Asked", "Trained", "TrainingError", "train"]
