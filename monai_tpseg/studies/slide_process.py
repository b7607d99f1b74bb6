"""A slide that is read in a process apart, one window ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.slide_reader import READ_SLIDE, SlideGrid
from monai_tpseg.studies.reading import Limits
from monai_tpseg.subprocesses import ChildProcess

__all__ = ["SlideProcess"]


class SlideProcess:
    """Asks a process for the windows of a slide: what crashes or hangs there costs the case and nothing else.

    Args:
        path: see `SlideReader`.
        mpp: see `SlideReader`.
        slide_mpp: see `SlideReader`.
        limits: of time for one window, and of memory.

    Attributes:
        grid: of the windows.

    Raises:
        ReadError: see `SlideReader`.
        CallLost: the process ended without an answer.
    """

    def __init__(self, path: Path, mpp: float, slide_mpp: float | None = None, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._slide = (path, mpp, slide_mpp)
        self._process = ChildProcess(READ_SLIDE, limits.seconds, limits.bytes)
        try:
            self._ask()
            self.grid: SlideGrid = self._process.receive().value
        except BaseException:
            self.close()
            raise

    def windows(self, corners: Sequence[tuple[int, int]], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Yield the windows (3, height, width) at `corners` (top, left), the next one being read meanwhile."""
        ahead = iter(corners)
        asked = self._next(ahead, size)
        while asked:
            window = self._process.receive().value
            asked = self._next(ahead, size)
            yield window

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """Return the whole slide, see `SlideReader.thumbnail`."""
        self._ask(side)
        small: NDArray[np.uint8] = self._process.receive().value
        return small

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _ask(self, *what: int) -> None:
        self._process.send(*self._slide, what)

    def _next(self, ahead: Iterator[tuple[int, int]], size: tuple[int, int]) -> bool:
        corner = next(ahead, None)
        if corner is not None:
            self._ask(*corner, *size)
        return corner is not None
