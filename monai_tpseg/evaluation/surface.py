"""Distance between the outlines of mask and label: HD95 and normalised surface Dice, by MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from torch import Tensor

__all__ = ["SurfaceMeasures", "surface_measures"]

_PERCENTILE = 95.0


class SurfaceMeasures(NamedTuple):
    """Two measures of one image.

    Attributes:
        hd95: the larger of both directed 95th percentiles of the distances between the outlines, in the unit of the
            spacing; None where a mask is empty, as there is nothing to measure from.
        nsd: share of both outlines that lies within the tolerance of the other, in [0, 1]; 0 where one mask is empty,
            None where both are.
    """

    hd95: float | None
    nsd: float | None


def surface_measures(
    pred: Tensor, label: Tensor, spacing: Sequence[float] | None = None, tolerance: float = 1.0
) -> SurfaceMeasures:
    """Compare the outlines of two masks: the pixels or voxels of a mask with a side on what is not mask.

    Args:
        pred: (H, W) or (H, W, D) in {0, 1}.
        label: label in {0, 1}, same shape.
        spacing: distance of neighbours along each axis, e.g. in millimetres; one pixel by default.
        tolerance: the largest distance that counts as right in the surface Dice, in the unit of the spacing.

    Raises:
        ValueError: the shapes differ.

    Source: MONAI's `compute_hausdorff_distance` and `compute_surface_dice`; Nikolov et al. 2021 for the latter.
    """
    if pred.shape != label.shape:
        raise ValueError(f"Prediction {tuple(pred.shape)} and label {tuple(label.shape)} must have the same shape.")
    one, two = (torch.as_tensor(mask).as_subclass(Tensor).cpu() > 0 for mask in (pred, label))
    if not one.any() or not two.any():  # MONAI warns, and says nan or inf
        return SurfaceMeasures(None, 0.0 if one.any() or two.any() else None)
    steps = None if spacing is None else [float(step) for step in spacing]
    masks = one[None, None], two[None, None]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy")  # MONAI's own call of its own function
        distance = compute_hausdorff_distance(*masks, include_background=True, percentile=_PERCENTILE, spacing=steps)
        share = compute_surface_dice(*masks, class_thresholds=[tolerance], include_background=True, spacing=steps)
    return SurfaceMeasures(float(distance), float(share))
