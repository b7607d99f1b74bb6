"""TP-Seg for MONAI: one model for eight medical lesion segmentation tasks."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
