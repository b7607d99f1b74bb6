"""Choices that several fronts share, each with its one home here; no imports, so that nothing starts slowly."""

from __future__ import annotations

__all__ = ["CAPTION_HEIGHT", "LESION_COLOUR", "MIN_LESION_AREA", "THRESHOLD"]

THRESHOLD = 0.5
"""Probability from which a pixel is lesion."""

MIN_LESION_AREA = 0
"""Smallest lesion that stays, pixels or voxels; 0 keeps all."""

LESION_COLOUR = (0, 255, 255)
"""Red, green, blue of lesions in pictures of results: cyan, rare in tissue, visible on grey, red and brown."""

CAPTION_HEIGHT = 24
"""Pixels of the caption above the picture in an overlay; where the caption is wider, black fills the rest beside it."""
