"""What a lesion is: pixels that touch, at corners too. The one place where the lesions of a mask are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["label_lesions"]


def label_lesions(mask: NDArray[Any], smallest: int = 0, across_slices: bool = True) -> NDArray[np.int32]:
    """Number the connected lesions of a mask, the largest first; of two equal ones the one that begins first.

    Args:
        mask: (H, W) or (H, W, D); what is above 0 is lesion.
        smallest: lesions of fewer pixels or voxels become background.
        across_slices: the slices of a volume are neighbours. They are not where each has a place of its own, as with
            gaps or a tilted gantry: there a lesion ends with its slice.

    Returns:
        of the same shape: 0 background, 1 the largest lesion, and so on.

    >>> label_lesions(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]])).tolist()
    [[2, 0, 0], [0, 0, 1], [0, 1, 0]]
    """
    near = np.ones((3,) * mask.ndim)
    if not across_slices:
        near[..., [0, 2]] = 0
    parts, count = ndimage.label(mask > 0, structure=near)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] >= smallest]
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[1 + kept] = np.arange(1, len(kept) + 1)
    numbered: NDArray[np.int32] = numbers[parts]
    return numbered
