"""Whole slides through MONAI's `WSIReader`: windows at one magnification, on a grid relative to the finest level."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import WSIReader
from monai.utils import optional_import
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.misnamed import check_content
from monai_tpseg.io.safety import base_name, read_safely
from monai_tpseg.io.slide_detection import check_dicom_slide
from monai_tpseg.words import how_to_install

__all__ = ["READ_SLIDE", "SlideGrid", "SlideReader", "read_slide"]

READ_SLIDE = f"{__name__}:read_slide"
"""`read_slide` by name, for `monai_tpseg.subprocesses`."""

_MPP = (0.02, 20.0)  # micrometres: values outside were not measured with a microscope, e.g. 72 dots per inch
_TO_MICROMETRES = {"centimeter": 1e4, "inch": 25400.0}
_FINER = 1.05  # a level may be coarser than requested by this factor, as in MONAI's `mpp_rtol`
_STRIP = 64  # rows of a thumbnail per read

openslide, has_openslide = optional_import("openslide")

Pair = tuple[float, float]


class SlideGrid(NamedTuple):
    """Pixel grid of a mask on a slide; pairs are (rows, columns).

    Attributes:
        size: size of the finest level in pixels.
        shape: size of the mask in pixels.
        slide_mpp: micrometres per pixel of the finest level.
        levels: downsampling factor of each level relative to the finest.
    """

    size: tuple[int, int]
    shape: tuple[int, int]
    slide_mpp: Pair
    levels: tuple[float, ...]

    @property
    def scale(self) -> Pair:
        """Pixels of the finest level per pixel of the mask; exact, since both cover the whole slide."""
        return self.size[0] / self.shape[0], self.size[1] / self.shape[1]

    @property
    def mpp(self) -> Pair:
        """Micrometres per pixel of the mask."""
        return self.slide_mpp[0] * self.scale[0], self.slide_mpp[1] * self.scale[1]


class SlideReader:
    """A whole slide at one magnification. Its labels, which may name the patient, are never read.

    Args:
        path: a file of a format that OpenSlide reads, or the folder of one DICOM whole slide.
        mpp: micrometres per pixel of the windows.
        slide_mpp: micrometres per pixel of the finest level, if the slide does not state them.

    Attributes:
        grid: grid of the windows.

    Raises:
        ReadError: `E_EXTRA`, OpenSlide is not installed; `E_FORMAT`, OpenSlide does not read the file; `E_NO_MPP`,
            neither the slide nor `slide_mpp` states the pixel size; `E_CODEC`, OpenSlide does not support the
            compression of a DICOM slide; `E_DECODE`, the slide is damaged.
    """

    def __init__(self, path: Path, mpp: float, slide_mpp: float | None = None) -> None:
        if path.is_file():
            read_safely(lambda: check_content(path, "slide"), base_name(path))
        if not has_openslide:
            raise ReadError("E_EXTRA", f"{base_name(path)} is a whole slide, which needs {how_to_install('wsi')}.")
        self._path = path
        self._reader = WSIReader(backend="openslide", mode="RGBA")
        self._opened: tuple[int, Any] = (0, None)
        self.grid = read_safely(lambda: self._measure(mpp, slide_mpp), base_name(path))

    def _measure(self, mpp: float, slide_mpp: float | None) -> SlideGrid:
        slide = self._slide()
        stated = _stated_mpp(slide.properties) or (None if slide_mpp is None else (slide_mpp, slide_mpp))
        if stated is None:
            raise ReadError("E_NO_MPP", f"{base_name(self._path)} does not state its pixel size; give --slide-mpp.")
        height, width = (int(n) for n in self._reader.get_size(slide, 0))
        shape = max(round(height * stated[0] / mpp), 1), max(round(width * stated[1] / mpp), 1)
        levels = (float(self._reader.get_downsample_ratio(slide, n)) for n in range(slide.level_count))
        return SlideGrid((height, width), shape, stated, tuple(levels))

    def read(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a window, (3, height, width) RGB, at `mpp`; areas beyond the slide or not scanned are glass.

        Raises:
            ReadError: `E_DECODE`, the slide is damaged there.
        """
        return read_safely(lambda: self._read((top, left), (height, width), self.grid.scale), base_name(self._path))

    def windows(self, corners: Iterable[tuple[int, int]], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Yield the windows of `size` (height, width) at `corners` (top, left), see `read`."""
        return (self.read(*corner, *size) for corner in corners)

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """Return the whole slide, (3, h, w), with a longer side of at most `side` pixels.

        The slide is read in strips, so that one without small levels fits into memory.

        Raises:
            ReadError: `E_DECODE`, the slide is damaged.
        """
        step = max(max(self.grid.size) / side, 1.0)
        height, width = (max(round(n / step), 1) for n in self.grid.size)
        scale = self.grid.size[0] / height, self.grid.size[1] / width
        strips = range(0, height, _STRIP)

        def read() -> NDArray[np.uint8]:
            return np.concatenate(
                [self._read((top, 0), (min(_STRIP, height - top), width), scale) for top in strips], axis=1
            )

        return read_safely(read, base_name(self._path))

    def _read(self, corner: tuple[int, int], size: tuple[int, int], scale: Pair) -> NDArray[np.uint8]:
        """(row, column) and (height, width) in pixels of `scale` -> RGB."""
        slide, grid = self._slide(), self.grid
        level = max(n for n, step in enumerate(grid.levels) if n == 0 or step <= min(scale) * _FINER)
        whole = self._reader.get_size(slide, level)
        axes = [_Axis.of(c, n, s, grid.levels[level], side, end) for c, n, s, side, end in
                zip(corner, size, scale, grid.size, whole, strict=True)]  # fmt: skip
        location, shape = tuple(axis.location for axis in axes), tuple(axis.length for axis in axes)
        try:
            tile, _ = self._reader.get_data(slide, location=location, size=shape, level=level)
        except openslide.OpenSlideError as error:
            raise ReadError(
                "E_DECODE", f"{base_name(self._path)} has damaged tiles; copy or export it again."
            ) from error
        glass = _glass(slide.properties)
        rows, columns = axes
        picture = Image.fromarray(_on_glass(tile, glass)).resize(
            (columns.inside, rows.inside),
            Image.Resampling.BILINEAR,
            box=(columns.low, rows.low, columns.high, rows.high),
        )
        window = np.full((*size, 3), glass, np.uint8)
        window[: rows.inside, : columns.inside] = np.asarray(picture)
        return window.transpose(2, 0, 1)

    def _slide(self) -> Any:
        """Opened once per process: a handle opened before a fork must not be used after it."""
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> Any:
        file = next(iter(sorted(self._path.iterdir()))) if self._path.is_dir() else self._path
        try:
            return self._reader.read(file)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise ReadError(
                "E_FORMAT", f"{base_name(self._path)} is not a readable slide; convert it to a pyramidal TIFF."
            ) from error
        except openslide.OpenSlideError:
            check_dicom_slide(self._path)
            raise

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (0, None)}


def read_slide(path: Path, mpp: float, slide_mpp: float | None, what: tuple[int, ...]) -> SlideGrid | NDArray[np.uint8]:
    """Return the grid, a thumbnail or a window of a slide, which stays open for the next call.

    Args:
        path, mpp, slide_mpp: see `SlideReader`.
        what: empty for the grid; the side of a thumbnail; or top, left, height and width of a window.

    Raises:
        ReadError: see `SlideReader`.
    """
    reader = _opened(path, mpp, slide_mpp)
    if not what:
        return reader.grid
    return reader.thumbnail(*what) if len(what) == 1 else reader.read(*what)


@lru_cache(maxsize=1)
def _opened(path: Path, mpp: float, slide_mpp: float | None) -> SlideReader:
    return SlideReader(path, mpp, slide_mpp)


class _Axis(NamedTuple):
    """The part of a level that is read along one axis, and the position of a window in it."""

    location: int  # of the first pixel that is read, in pixels of the finest level
    length: int  # pixels of the level that are read
    low: float  # of the window, in pixels of the level from the first one on
    high: float
    inside: int  # pixels of the window that lie on the slide

    @classmethod
    def of(cls, start: int, length: int, scale: float, step: float, side: int, end: int) -> _Axis:
        """Place a window.

        Args:
            start, length: start and length of the window, in pixels of `scale`.
            scale, step: pixels of the finest level per pixel of the window and per pixel of the level.
            side, end: size of the slide, in pixels of the finest level and of the level.
        """
        inside = min(length, round(side / scale) - start)
        low, high = min(start * scale / step, end - 0.5), min((start + inside) * scale / step, float(end))
        first = int(low)
        return cls(
            min(round(first * step), side - 1),
            max(int(np.ceil(high - 1e-6)) - first, 1),
            low - first,
            high - first,
            inside,
        )


def _stated_mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """(row, column) micrometres per pixel of the finest level, None if missing or implausible."""
    texts = [properties.get(f"openslide.mpp-{axis}") for axis in "yx"]
    try:
        values = [float(text) for text in texts if text]
        if len(values) < 2:
            unit = _TO_MICROMETRES[properties.get("tiff.ResolutionUnit", "")]
            values = [unit / float(properties[f"tiff.{axis}Resolution"]) for axis in "YX"]
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return (values[0], values[1]) if all(_MPP[0] <= value <= _MPP[1] for value in values) else None


def _glass(properties: Mapping[str, str]) -> tuple[int, int, int]:
    """The colour of areas that were not scanned: white if the slide states none."""
    text = properties.get("openslide.background-color", "")
    value = int(text, 16) if len(text) == 6 else 0xFFFFFF
    return value >> 16, value >> 8 & 255, value & 255


def _on_glass(tile: NDArray[np.uint8], glass: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(4, h, w) RGBA -> (h, w, 3): areas that were not scanned are transparent, not black."""
    alpha = tile[3][..., None].astype(np.float32) / 255
    mixed = tile[:3].transpose(1, 2, 0) * alpha + np.array(glass) * (1 - alpha)
    return np.asarray(mixed.round(), np.uint8)
