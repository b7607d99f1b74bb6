"""Compressed masks with probabilities, small enough for one per step of a session."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Change", "PackedMask", "change_of", "no_change"]

Box = tuple[int, int, int, int]
"""First row, first column, end row, end column; half-open."""


class Change(NamedTuple):
    """The effect of a request on the mask of a slice.

    Attributes:
        index: number of the slice; -1 if no slice is affected.
        box: bounding box of the changed pixels; None if the mask did not change.
        mask: (rows, columns) uint8 in {0, 1}, the new mask within `box`.
    """

    index: int  # type: ignore[assignment]  # hides the method of tuples, which nobody needs here
    box: Box | None
    mask: NDArray[np.uint8]


def no_change(index: int) -> Change:
    """Return the change of a request without an effect on masks."""
    return Change(index, None, np.zeros((0, 0), np.uint8))


def change_of(index: int, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Change:
    """Return the change between two masks (H, W) of a slice."""
    differs = before != after
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return no_change(index)
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    return Change(index, box, after[box[0] : box[2], box[1] : box[3]].copy())


@dataclass(frozen=True)
class PackedMask:
    """A compressed binary mask with its probabilities.

    Attributes:
        shape: (H, W).
        bits: the mask, eight pixels per byte, row by row, compressed.
        levels: probabilities of the marked pixels in steps of 1 / 255, compressed.
    """

    shape: tuple[int, int]
    bits: bytes
    levels: bytes

    @classmethod
    def of(cls, marked: NDArray[np.bool_], prob: NDArray[np.float32]) -> PackedMask:
        """Compress a mask (H, W) and the probabilities (H, W) of its marked pixels."""
        levels = np.rint(prob[marked] * 255).astype(np.uint8)
        height, width = prob.shape
        bits = zlib.compress(np.packbits(marked, axis=1).tobytes())
        return cls((height, width), bits, zlib.compress(levels.tobytes()))

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is marked."""
        return not zlib.decompress(self.levels)

    def mask(self) -> NDArray[np.uint8]:
        """Return the mask, (H, W) uint8 in {0, 1}."""
        width = self.shape[1]
        rows = np.frombuffer(zlib.decompress(self.bits), np.uint8).reshape(self.shape[0], -(-width // 8))
        return np.unpackbits(rows, axis=1, count=width)

    def prob(self) -> NDArray[np.float32]:
        """Return the probabilities with an error of at most 1 / 510, (H, W); 0 outside the mask."""
        found: NDArray[Any] = np.zeros(self.shape, np.float32)
        found[self.mask() > 0] = np.frombuffer(zlib.decompress(self.levels), np.uint8) / np.float32(255)
        return found
