"""Handlers: what MONAI's engines lack for TP-Seg, each a thin class with `attach`."""

from __future__ import annotations

from monai_tpseg.handlers.average import WeightAverage
from monai_tpseg.handlers.checkpoints import RunCheckpoint
from monai_tpseg.handlers.click_evaluation import ClickMetricsHandler
from monai_tpseg.handlers.clock import RunClock
from monai_tpseg.handlers.curves import LearningCurves
from monai_tpseg.handlers.divergence import DivergenceError, StopOnDivergence
from monai_tpseg.handlers.gates import GatePicture, GateSchedule
from monai_tpseg.handlers.lesion_metrics import LesionMetricsHandler
from monai_tpseg.handlers.overlays import ValidationOverlays
from monai_tpseg.handlers.progress import CaseProgress, TrainProgress
from monai_tpseg.handlers.prototypes import PrototypeUpdate, ReinforcementRamp
from monai_tpseg.handlers.training import (
    EpochSeed,
    FillCache,
    FinalValidation,
    GradientClipping,
    KeepLoss,
    StartWeights,
)
from monai_tpseg.handlers.weights_loader import FastNetwork, WeightsLoader

__all__ = [
    "CaseProgress",
    "ClickMetricsHandler",
    "DivergenceError",
    "EpochSeed",
    "FastNetwork",
    "FillCache",
    "FinalValidation",
    "GatePicture",
    "GateSchedule",
    "GradientClipping",
    "KeepLoss",
    "LearningCurves",
    "LesionMetricsHandler",
    "PrototypeUpdate",
    "ReinforcementRamp",
    "RunCheckpoint",
    "RunClock",
    "StartWeights",
    "StopOnDivergence",
    "TrainProgress",
    "ValidationOverlays",
    "WeightAverage",
    "WeightsLoader",
]
