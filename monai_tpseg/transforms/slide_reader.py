"""A whole slide through MONAI's `WSIReader`: windows at one magnification, on a grid that its finest level explains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import WSIReader
from monai.utils import optional_import
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import base_name, guarded

__all__ = ["SlideGrid", "SlideReader"]

_MPP = (0.02, 20.0)  # micrometres: what lies outside was not measured under a microscope, e.g. 72 dots an inch
_TO_MICROMETRES = {"centimeter": 1e4, "inch": 25400.0}
_FINER = 1.05  # a level may be coarser than asked for by this factor, as in MONAI's `mpp_rtol`
_STRIP = 64  # rows of a thumbnail that are read at once

openslide, has_openslide = optional_import("openslide")

Pair = tuple[float, float]


class SlideGrid(NamedTuple):
    """How the pixels of a mask lie on a slide; pairs are rows, columns.

    Attributes:
        size: of the finest level, pixels.
        shape: of the mask, pixels.
        slide_mpp: micrometres a pixel of the finest level.
        levels: how many times coarser each level of the slide is than the finest.
    """

    size: tuple[int, int]
    shape: tuple[int, int]
    slide_mpp: Pair
    levels: tuple[float, ...]

    @property
    def scale(self) -> Pair:
        """Pixels of the finest level in one of the mask; both cover the whole slide, so it is exact."""
        return self.size[0] / self.shape[0], self.size[1] / self.shape[1]

    @property
    def mpp(self) -> Pair:
        """Micrometres a pixel of the mask."""
        return self.slide_mpp[0] * self.scale[0], self.slide_mpp[1] * self.scale[1]


class SlideReader:
    """A whole slide at one magnification. Its labels, which may name the patient, are never read.

    Args:
        path: a file of a format that OpenSlide reads, or the folder of one DICOM whole slide.
        mpp: micrometres a pixel that the windows are read at.
        slide_mpp: micrometres a pixel of the finest level, where the slide does not say.

    Attributes:
        grid: of the windows.

    Raises:
        ReadError: `E_EXTRA`, OpenSlide is not installed; `E_FORMAT`, it does not read the slide; `E_NO_MPP`, neither
            the slide nor `slide_mpp` says how large its pixels are; `E_DECODE`.
    """

    def __init__(self, path: Path, mpp: float, slide_mpp: float | None = None) -> None:
        if not has_openslide:
            raise ReadError("E_EXTRA", f"{base_name(path)} is a whole slide; pip install 'monai-tpseg[wsi]' reads it.")
        self._path = path
        self._reader = WSIReader(backend="openslide", mode="RGBA")
        self._opened: tuple[int, Any] = (0, None)
        self.grid = guarded(lambda: self._measure(mpp, slide_mpp), base_name(path))

    def _measure(self, mpp: float, slide_mpp: float | None) -> SlideGrid:
        slide = self._slide()
        stated = _stated_mpp(slide.properties) or (None if slide_mpp is None else (slide_mpp, slide_mpp))
        if stated is None:
            raise ReadError(
                "E_NO_MPP", f"{base_name(self._path)} does not say how large its pixels are; give --slide-mpp."
            )
        height, width = (int(n) for n in self._reader.get_size(slide, 0))
        shape = max(round(height * stated[0] / mpp), 1), max(round(width * stated[1] / mpp), 1)
        levels = (float(self._reader.get_downsample_ratio(slide, n)) for n in range(slide.level_count))
        return SlideGrid((height, width), shape, stated, tuple(levels))

    def read(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a window, (3, height, width) RGB, at `mpp`; what lies beyond the slide or was not scanned is glass.

        Raises:
            ReadError: `E_DECODE`, the slide is damaged there.
        """
        return guarded(lambda: self._read((top, left), (height, width), self.grid.scale), base_name(self._path))

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """Return the whole slide, (3, h, w), its longer side `side` pixels or that of the slide if it is shorter.

        It is read in strips, so that a slide without small levels fits into memory.

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

        return guarded(read, base_name(self._path))

    def _read(self, corner: tuple[int, int], size: tuple[int, int], scale: Pair) -> NDArray[np.uint8]:
        """(row, column) and (height, width) in pixels of `scale` -> RGB."""
        slide, glass = self._slide(), _glass(self._slide().properties)
        level = max(n for n, step in enumerate(self.grid.levels) if n == 0 or step <= min(scale) * _FINER)
        step = self.grid.levels[level]
        # first, past the last, in pixels of the level
        box = [(c * s / step, min(c + n, round(e / s)) * s / step) for c, n, s, e in
               zip(corner, size, scale, self.grid.size, strict=True)]  # fmt: skip
        first = [int(low) for low, _ in box]
        shape = [max(int(np.ceil(high - 1e-6)) - f, 1) for (_, high), f in zip(box, first, strict=True)]
        location = tuple(min(round(f * step), n - 1) for f, n in zip(first, self.grid.size, strict=True))
        tile, _ = self._reader.get_data(slide, location=location, size=tuple(shape), level=level)
        inside = [min(n, round(e / s) - c) for c, n, s, e in zip(corner, size, scale, self.grid.size, strict=True)]
        edges = [side for (low, high), f in zip(box, first, strict=True) for side in (low - f, high - f)]
        picture = Image.fromarray(_on_glass(tile, glass)).resize(
            (inside[1], inside[0]), Image.Resampling.BILINEAR, box=(edges[2], edges[0], edges[3], edges[1])
        )
        window = np.full((*size, 3), glass, np.uint8)
        window[: inside[0], : inside[1]] = np.asarray(picture)
        return window.transpose(2, 0, 1)

    def _slide(self) -> Any:
        """Opened once in each process: a handle that was opened before a fork must not be used after it."""
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> Any:
        file = next(iter(sorted(self._path.iterdir()))) if self._path.is_dir() else self._path
        try:
            return self._reader.read(file)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise ReadError(
                "E_FORMAT", f"{base_name(self._path)} is no slide that can be read; convert it to a pyramidal TIFF."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (0, None)}


def _stated_mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """(row, column) micrometres a pixel of the finest level, None where the slide does not say or cannot mean it."""
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
    """The colour of what was not scanned: white where the slide names none."""
    text = properties.get("openslide.background-color", "")
    value = int(text, 16) if len(text) == 6 else 0xFFFFFF
    return value >> 16, value >> 8 & 255, value & 255


def _on_glass(tile: NDArray[np.uint8], glass: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(4, h, w) RGBA -> (h, w, 3): places that were not scanned are transparent, not black."""
    alpha = tile[3][..., None].astype(np.float32) / 255
    mixed = tile[:3].transpose(1, 2, 0) * alpha + np.array(glass) * (1 - alpha)
    return np.asarray(mixed.round(), np.uint8)
