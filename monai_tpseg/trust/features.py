"""Features of a probability map that predict the quality of its mask, in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.defaults import THRESHOLD

__all__ = ["FEATURES", "map_features"]

FEATURES = (
    "overlap",  # expected Dice of the mask according to the probabilities
    "inside",  # mean probability of the mask
    "outside",  # share of the total probability outside the mask
    "margin",  # Dice between the masks at 0.3 and 0.7
    "entropy",  # bits, mean over the pixels with an uncertain probability
    "rim",  # number of uncertain pixels relative to the circumference of a disc of the mask's area
    "peak",  # largest probability
    "area",  # logarithm of the mask's share of the picture
    "pieces",  # logarithm of the number of connected parts
    "largest",  # share of the largest part
    "empty",  # 1 where the mask is empty
)
"""Names of the features, in their order."""

_SURE = 0.05  # probabilities below it or above 1 - it are certain
_LEAST = 1e-4  # area of an empty mask, as a share of the picture


def map_features(prob: NDArray[Any], threshold: float = THRESHOLD) -> NDArray[np.float64]:
    """Return the features of a probability map, in the order of `FEATURES`.

    Args:
        prob: probabilities in [0, 1], (H, W) or (H, W, D).
        threshold: probability from which a pixel is lesion.

    Returns:
        (D,) float64
    """
    p = np.asarray(prob, np.float32)
    mask = p >= threshold
    area, total, inside = int(mask.sum()), float(p.sum(dtype=np.float64)), float(p[mask].sum(dtype=np.float64))
    unsure = p[(p > _SURE) & (p < 1 - _SURE)].astype(np.float64)
    low, high = int((p >= 0.3).sum()), int((p >= 0.7).sum())
    sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    return np.array(
        [
            2 * inside / max(total + area, 1e-6),
            inside / area if area else 0.0,
            (total - inside) / max(total, 1e-6),
            2 * high / (low + high) if low else 1.0,
            float(np.mean(-unsure * np.log2(unsure) - (1 - unsure) * np.log2(1 - unsure))) if len(unsure) else 0.0,
            np.log1p(len(unsure) / (2 * np.sqrt(np.pi * max(area, 1)))),
            float(p.max(initial=0.0)),
            np.log(max(area / max(p.size, 1), _LEAST)),
            np.log1p(len(sizes)),
            sizes.max() / area if area else 0.0,
            float(not area),
        ]
    )
