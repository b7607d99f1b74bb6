"""Inference on pictures larger than memory: overlapping windows, blended one row of windows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from monai_tpseg.inferers.task_inferer import Amp, Network, TaskInferer, image_size_2d

__all__ = ["SlideInferer", "WindowGrid"]


@dataclass(frozen=True)
class WindowGrid:
    """Placement of the windows of a picture: overlapping, from edge to edge.

    Attributes:
        shape: (H, W) of the picture, pixels; a side shorter than a window is read as a whole window.
        roi_size: (h, w) of a window, pixels.
        overlap: minimum overlap of neighbouring windows, in [0, 1); the windows are spaced evenly.
    """

    shape: tuple[int, int]
    roi_size: tuple[int, int]
    overlap: float = 0.25

    @property
    def tops(self) -> list[int]:
        """First rows of the windows."""
        return _starts(self.shape[0], self.roi_size[0], self.overlap)

    @property
    def lefts(self) -> list[int]:
        """First columns of the windows."""
        return _starts(self.shape[1], self.roi_size[1], self.overlap)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of every window, row by row: the order in which `SlideInferer` takes them."""
        return list(product(self.tops, self.lefts))


class SlideInferer:
    """Lesion probabilities of a picture of any size, from a stream of windows.

    Overlapping windows are weighted by a Gaussian, as in MONAI's `SlidingWindowInferer`; the weights of all windows at
    a pixel sum to one. None stands for a window free of lesions. Only a batch of windows and the probabilities of one
    row of windows, (h, W) float32, are held: memory does not grow with the height.

    Args:
        roi_size: (h, w) of a window, one or two multiples of 32.
        overlap: of neighbouring windows, in [0, 1).
        sw_batch_size: windows that run together, at least 1.
        amp: see `TaskInferer`.
        tta_flips: see `TaskInferer`.
        device: for the network's input; default: that of the windows.

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(
        self,
        roi_size: int | Sequence[int],
        overlap: float = 0.25,
        sw_batch_size: int = 4,
        amp: Amp = "none",
        tta_flips: bool = False,
        device: str | torch.device | None = None,
    ) -> None:
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}.")
        if not isinstance(sw_batch_size, int) or sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be a whole number of at least 1, got {sw_batch_size}.")
        self.roi_size = image_size_2d(roi_size, "roi_size")
        self.overlap, self.sw_batch_size = overlap, sw_batch_size
        self._infer = TaskInferer(self.roi_size, amp=amp, tta_flips=tta_flips, device=device)

    def grid(self, shape: tuple[int, int]) -> WindowGrid:
        """Return the windows of a picture of `shape` (H, W)."""
        return WindowGrid(shape, self.roi_size, self.overlap)

    @torch.no_grad()
    def __call__(
        self, windows: Iterable[Tensor | None], shape: tuple[int, int], network: Network, task: int
    ) -> Iterator[Tensor]:
        """Yield the probabilities of a picture from top to bottom, in strips.

        Args:
            windows: (3, h, w) ImageNet-normalised, in the order of `grid(shape).corners`; None for windows to skip.
            shape: (H, W) of the picture.
            network: called with (image, task), returns logits (B, 1, h, w).
            task: row of the task.

        Yields:
            (n, W) float32; the heights n add up to H.

        Raises:
            ValueError: fewer windows than the picture has.
        """
        grid = self.grid(shape)
        tops, lefts = grid.tops, grid.lefts
        rows, columns = (_weights(starts, size) for starts, size in zip((tops, lefts), self.roi_size, strict=True))
        height, width = self.roi_size
        strip = torch.zeros(height, max(lefts[-1] + width, shape[1]))
        found = self._probabilities(windows, network, task)
        for n, top in enumerate(tops):
            for m, left in enumerate(lefts):
                prob = next(found, None)
                if prob is None:
                    raise ValueError(f"Window {n * len(lefts) + m} of {len(tops) * len(lefts)} is missing.")
                strip[:, left : left + width] += prob * rows[n][:, None] * columns[m]
            ready = (tops[n + 1] if n + 1 < len(tops) else shape[0]) - top  # no window below reaches these rows
            yield strip[:ready, : shape[1]].clone()
            strip = torch.cat([strip[ready:], torch.zeros(min(ready, height), strip.shape[1])])

    def _probabilities(self, windows: Iterable[Tensor | None], network: Network, task: int) -> Iterator[Tensor]:
        """(h, w) of each window, in order; a batch is filled with the next windows that are not None."""
        nothing = torch.zeros(self.roi_size)
        order: list[bool] = []
        batch: list[Tensor] = []
        for window in windows:
            order.append(window is not None)
            batch += [] if window is None else [window]
            if len(batch) == self.sw_batch_size or not batch:
                yield from self._run(order, batch, nothing, network, task)
                order, batch = [], []
        yield from self._run(order, batch, nothing, network, task)

    def _run(
        self, order: list[bool], batch: list[Tensor], nothing: Tensor, network: Network, task: int
    ) -> Iterator[Tensor]:
        found = iter(self._infer(torch.stack(batch), network, task=task)[:, 0].float().cpu() if batch else ())
        yield from (next(found) if seen else nothing for seen in order)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Evenly spread starts of windows that overlap by at least `overlap`."""
    if length <= size:
        return [0]
    count = -(-(length - size) // max(int(size * (1 - overlap)), 1)) + 1
    return [round(n * (length - size) / (count - 1)) for n in range(count)]


def _weights(starts: list[int], size: int) -> list[Tensor]:
    """(size,) of each window along one axis: Gaussians, divided by their sum at each place."""
    place = torch.arange(size) - (size - 1) / 2
    gauss = torch.exp(-0.5 * (place / (0.125 * size)) ** 2).clamp_min(1e-3)
    total = torch.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += gauss
    return [gauss / total[start : start + size] for start in starts]
