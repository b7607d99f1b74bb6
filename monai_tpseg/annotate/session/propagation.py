"""Propagation of masks from slice to slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from monai_tpseg.annotate.session.history import Click
from monai_tpseg.clicks import next_clicks

__all__ = ["Proposal", "centre_click", "slices_along"]

Proposal = Literal["previous", "exemplar"]
"""What a slice is proposed by: the mask of the other one as a mask to be corrected, or the other one as an exemplar."""


def centre_click(mask: NDArray[np.uint8]) -> Click:
    """Return a user's first click for the largest region of `mask` (H, W), which must not be empty."""
    truth = torch.from_numpy(mask > 0)[None, None]
    # a fixed seed: a restored session gives the same result
    row, column, sign = next_clicks(torch.zeros_like(truth), truth, torch.Generator().manual_seed(0))[0, 0].tolist()
    return Click(row, column, int(sign))


def slices_along(start: int, steps: int, direction: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield up to `steps` pairs of neighbouring slices (from, to), starting from `start`.

    Args:
        start: first source slice.
        steps: maximum number of pairs, 0 or more.
        direction: 1 or -1.
        depth: number of slices.
    """
    for number in range(steps):
        at = start + direction * number
        if not 0 <= at + direction < depth:
            return
        yield at, at + direction
