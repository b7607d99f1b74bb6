"""Which slices of a volume show something."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["tissue_slices"]

_STEP = 2  # every second row and column is looked at
_BRIGHTER = 0.1  # of the volume's range
_SHARE = 0.002  # of a slice's pixels


def tissue_slices(volume: Tensor) -> list[int]:
    """Return the numbers of the slices that are not empty.

    The darkest slice is that of the lowest median; its median stands for air. A slice is empty where no more than 0.2 %
    of its pixels are brighter than that by a tenth of the range of the volume. So a volume without a dark slice loses
    none, and what lies in an empty slice, or is as dark as air, is not found.

    Args:
        volume: (3, H, W, D), as the network takes it.
    """
    small = volume[:, ::_STEP, ::_STEP].mean(dim=0).flatten(0, 1).t().contiguous()  # (D, pixels)
    low, high = small.min(), small.max()
    air = small.median(dim=1).values.min()
    share = (small > air + _BRIGHTER * (high - low)).float().mean(dim=1)
    return torch.nonzero(share > _SHARE).flatten().tolist()
