"""Inferers that take a task."""

from __future__ import annotations

from monai_tpseg.inferers.slide import SlideInferer, WindowGrid
from monai_tpseg.inferers.task import DeepSupervisionInferer, TaskInferer, image_size_2d

__all__ = ["DeepSupervisionInferer", "SlideInferer", "TaskInferer", "WindowGrid", "image_size_2d"]
