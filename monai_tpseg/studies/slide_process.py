"""Reading of a slide in a separate process, one window ahead of the network."""

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
    """Read the windows of a slide in a separate process: a crash or a timeout affects only the case.

    Args:
        path: see `SlideReader`.
        mpp: see `SlideReader`.
        slide_mpp: see `SlideReader`.
        limits: time limit per window, and memory limit.

    Attributes:
        grid: grid of the windows.

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
        """Yield the windows (3, height, width) at `corners` (top, left), reading one window ahead."""
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
