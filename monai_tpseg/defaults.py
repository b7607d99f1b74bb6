"""What a mask is cut with where nobody says otherwise; every front takes these."""

from __future__ import annotations

__all__ = ["MIN_LESION_AREA", "THRESHOLD"]

THRESHOLD = 0.5
"""Probability from which a pixel is lesion."""

MIN_LESION_AREA = 0
"""Smallest lesion that stays, pixels or voxels; 0 keeps all."""
