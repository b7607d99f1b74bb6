"""Detection of lesions, each counting once regardless of its size."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["LesionCounts", "match_lesions", "overlaps"]


class LesionCounts(NamedTuple):
    """Lesions of an image: found ones, predicted ones that are none, and missed ones."""

    found: int
    false: int
    missed: int


def overlaps(pred: NDArray[Any], label: NDArray[Any]) -> NDArray[np.int64]:
    """Return the common pixels of all pairs of regions.

    Args:
        pred: numbered from 0 (background) to P.
        label: likewise, of the same shape, to L.

    Returns:
        (L + 1, P + 1); sums along an axis are the sizes of regions.
    """
    size = int(label.max(initial=0)) + 1, int(pred.max(initial=0)) + 1
    pairs = np.ravel_multi_index((label.ravel(), pred.ravel()), size)
    return np.bincount(pairs, minlength=size[0] * size[1]).reshape(size)


def match_lesions(pred: NDArray[Any], label: NDArray[Any], least: float) -> LesionCounts:
    """Pair predicted and true lesions one to one, so that the sum of their IoU is largest, and count.

    The pairs are those of MONAI's `compute_panoptic_quality`, which needs a mask of the image's size for every lesion:
    too much for volumes.

    Args:
        pred: numbered lesions, (H, W) or (H, W, D), as `monai_tpseg.lesions.label_lesions` gives them.
        label: numbered lesions of the same shape.
        least: IoU in (0, 1) above which a pair counts as found.

    Raises:
        ValueError: the shapes differ, or `least` is out of range.
    """
    if pred.shape != label.shape:
        raise ValueError(f"Prediction {pred.shape} and label {label.shape} must have the same shape.")
    if not 0 < least < 1:
        raise ValueError(f"The minimum IoU must be in (0, 1), got {least}.")
    common = overlaps(pred, label)
    inside = common[1:, 1:]
    union = common[1:].sum(1, keepdims=True) + common[:, 1:].sum(0, keepdims=True) - inside
    iou = inside / np.maximum(union, 1)
    rows, columns = linear_sum_assignment(-iou)
    found = int((iou[rows, columns] > least).sum())
    return LesionCounts(found, iou.shape[1] - found, iou.shape[0] - found)
