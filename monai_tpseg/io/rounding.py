"""Tolerances of header values for rounding; larger deviations are faults."""

from __future__ import annotations

__all__ = ["DEGREES", "MILLIMETRES"]

MILLIMETRES = 0.1
"""Between the position of a slice and the regular grid. A position with one decimal is off by up to 0.087 mm."""

DEGREES = 1.0
"""Between two directions that should be equal. A direction with two decimals is off by up to 0.7 degrees."""
