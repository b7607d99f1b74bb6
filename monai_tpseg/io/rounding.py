"""How far a header may be off by rounding; what is further off is a fault."""

from __future__ import annotations

__all__ = ["DEGREES", "MILLIMETRES"]

MILLIMETRES = 0.1
"""Between the place of a slice and the regular grid. A position of one decimal is up to 0.087 mm off in space."""

DEGREES = 1.0
"""Between two directions that are meant to be equal. A direction of two decimals is up to 0.7 degrees off."""
