"""From the mask of one slice to a proposal for the next."""

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
    """Return the click that a user would begin the largest region of `mask` (H, W) with; it must mark something."""
    truth = torch.from_numpy(mask > 0)[None, None]
    # the same draw each time: a session that is restored finds the same
    row, column, sign = next_clicks(torch.zeros_like(truth), truth, torch.Generator().manual_seed(0))[0, 0].tolist()
    return Click(row, column, int(sign))


def slices_along(start: int, steps: int, direction: int, depth: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of neighbouring slices (from, to), `steps` of them from `start` on, as far as there are slices.

    Args:
        start: the first slice to go from.
        steps: how many, 0 or more.
        direction: 1 or -1.
        depth: number of slices.
    """
    for number in range(steps):
        at = start + direction * number
        if not 0 <= at + direction < depth:
            return
        yield at, at + direction
