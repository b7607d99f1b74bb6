"""Inferers that take a task."""

from __future__ import annotations

from monai_tpseg.inferers.task import DeepSupervisionInferer, TaskInferer, image_size_2d

__all__ = ["DeepSupervisionInferer", "TaskInferer", "image_size_2d"]
