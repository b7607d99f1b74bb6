"""Run-length encoded binary masks, whose memory grows with the outline of the lesions, not with the slide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["RunMask"]

Ints = NDArray[np.int64]
_BLOCK = 512  # rows per decoding step


@dataclass(frozen=True, eq=False)
class RunMask:
    """Horizontal runs of a mask, sorted by row, then by column; runs of a row do not touch.

    Attributes:
        shape: (H, W) of the mask in pixels.
        row, start, end: (N,) row and half-open columns of each run.
        weight: (N,) sum of values over each run, e.g. of probabilities.
    """

    shape: tuple[int, int]
    row: Ints
    start: Ints
    end: Ints
    weight: NDArray[np.float64]

    @classmethod
    def encode(cls, mask: NDArray[np.bool_], values: NDArray[np.float32] | None = None) -> RunMask:
        """Return the runs of a mask.

        Args:
            mask: (H, W) bool.
            values: (H, W) values summed over each run as its weight; the mask itself by default.
        """
        height, width = mask.shape
        edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).view(np.int8), axis=1)  # 1 where a run starts, -1 past its end
        row, start = np.nonzero(edges == 1)
        end = np.nonzero(edges == -1)[1]
        sums = (end - start).astype(np.float64) if values is None else _sums(values, mask, end - start)
        return cls((height, width), row.astype(np.int64), start.astype(np.int64), end.astype(np.int64), sums)

    @classmethod
    def stack(cls, parts: list[RunMask]) -> RunMask:
        """Return the masks of `parts` stacked vertically; at least one, all of the same width."""
        heights = np.cumsum([0, *(part.shape[0] for part in parts)])
        rows = [part.row + top for part, top in zip(parts, heights[:-1], strict=True)]
        start, end, weight = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "end", "weight")
        )
        return cls((int(heights[-1]), parts[0].shape[1]), np.concatenate(rows), start, end, weight)

    @property
    def lengths(self) -> Ints:
        """(N,) pixels of each run."""
        return self.end - self.start

    def decode(self, top: int, bottom: int) -> NDArray[np.bool_]:
        """Return the rows `top` to `bottom`, (bottom - top, W)."""
        width = self.shape[1]
        first, last = np.searchsorted(self.row, (top, bottom))
        change = np.zeros((bottom - top, width + 1), np.int8)
        rows = self.row[first:last] - top
        change[rows, self.start[first:last]] = 1
        change[rows, self.end[first:last]] = -1
        return np.cumsum(change[:, :width], axis=1, dtype=np.int8).astype(bool)

    def blocks(self, height: int = _BLOCK) -> Iterator[NDArray[np.bool_]]:
        """Yield the mask in blocks of `height` rows, the last one shorter."""
        for top in range(0, self.shape[0], height):
            yield self.decode(top, min(top + height, self.shape[0]))

    def halved(self) -> RunMask:
        """Return the mask (at least 2 x 2) at half size: set if two of four pixels are set; odd edges are cropped."""
        parts = []
        for block in self.blocks():
            rows, columns = block.shape[0] // 2, block.shape[1] // 2
            fours = block[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
            parts.append(RunMask.encode(fours.sum(axis=(1, 3), dtype=np.uint8) >= 2))
        return RunMask.stack(parts)

    def labels(self, diagonal: bool = True) -> tuple[int, Ints]:
        """Return the number of connected regions and the region (N,) of each run, numbered from 0.

        Args:
            diagonal: whether pixels that touch at a corner are connected.
        """
        reach, stride = int(diagonal), self.shape[1] + 2
        low = np.searchsorted(self.row * stride + self.end, (self.row + 1) * stride + self.start + (1 - reach), "left")
        high = np.searchsorted(
            self.row * stride + self.start, (self.row + 1) * stride + self.end - (1 - reach), "right"
        )
        count = np.maximum(high - low, 0)  # runs of the next row that each run touches: one after the other
        above = np.repeat(np.arange(len(count)), count)
        below = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        if not len(count):
            return 0, self.row
        links = coo_matrix((np.ones(len(above), np.int8), (above, below)), shape=(len(count), len(count)))
        regions, of_run = connected_components(links, directed=False)
        return int(regions), of_run.astype(np.int64)

    def where(self, kept: NDArray[np.bool_]) -> RunMask:
        """Return the runs selected by `kept` (N,)."""
        return RunMask(self.shape, self.row[kept], self.start[kept], self.end[kept], self.weight[kept])

    def without_small(self, pixels: int) -> RunMask:
        """Return the mask without the regions of fewer than `pixels` pixels; corners connect."""
        if pixels <= 1 or not len(self.row):
            return self
        count, of_run = self.labels()
        return self.where(np.bincount(of_run, self.lengths, count)[of_run] >= pixels)


def _sums(values: NDArray[np.float32], mask: NDArray[np.bool_], lengths: NDArray[np.intp]) -> NDArray[np.float64]:
    """The sum of the values of each run; the runs follow each other in the flattened mask."""
    if not len(lengths):
        return np.zeros(0)
    return np.add.reduceat(values[mask].astype(np.float64), np.cumsum(lengths) - lengths)
