"""Inferers that take a task or another prompt."""

from __future__ import annotations

from monai_tpseg.inferers.prompt_inferer import PromptInferer, SimulatedUser
from monai_tpseg.inferers.slide_inferer import SlideInferer, WindowGrid
from monai_tpseg.inferers.task_inferer import DeepSupervisionInferer, TaskInferer, image_size_2d

__all__ = [
    "DeepSupervisionInferer",
    "PromptInferer",
    "SimulatedUser",
    "SlideInferer",
    "TaskInferer",
    "WindowGrid",
    "image_size_2d",
]
