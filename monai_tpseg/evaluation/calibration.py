"""Whether a probability of 0.8 is right in 8 of 10 pixels: the expected calibration error."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BINS", "calibration_bins", "calibration_error"]

BINS = 15
"""Bins of equal width between 0 and 1, as in Guo et al. 2017."""


def calibration_bins(prob: Tensor, label: Tensor) -> NDArray[np.float64]:
    """Return what the calibration error of an image, or of many, follows from.

    Args:
        prob: probabilities of the lesion in [0, 1], of any shape.
        label: label in {0, 1}, same shape.

    Returns:
        (3, BINS): pixels, sum of their probabilities, sum of their labels. Those of images may be added up.

    Raises:
        ValueError: the shapes differ or a probability is out of range.
    """
    if prob.shape != label.shape:
        raise ValueError(f"Probabilities {tuple(prob.shape)} and label {tuple(label.shape)} must have the same shape.")
    values = torch.as_tensor(prob).as_subclass(Tensor).detach().cpu().double().numpy().ravel()
    truth = (torch.as_tensor(label).as_subclass(Tensor).cpu() > 0).double().numpy().ravel()
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"Probabilities must lie in [0, 1], got {values.min():g} to {values.max():g}.")
    place = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return np.stack([np.bincount(place, weights, BINS) for weights in (None, values, truth)]).astype(np.float64)


def calibration_error(bins: NDArray[np.float64]) -> float | None:
    """Return the mean over pixels of the gap between probability and share of lesion in their bin; None of no pixel.

    Args:
        bins: result of `calibration_bins`, or a sum of several.
    """
    pixels, said, true = bins
    return float(np.abs(said - true).sum() / pixels.sum()) if pixels.sum() else None
