"""One whole slide: read in windows at the magnification of the training, segmented, measured and written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from monai_tpseg.inferers.slide import SlideInferer
from monai_tpseg.keys import IMAGE
from monai_tpseg.networks.checkpoint import file_sha256
from monai_tpseg.studies.lesions import UNCERTAIN, Lesion, lesions_csv
from monai_tpseg.studies.model import Model
from monai_tpseg.studies.outlines import Polygon, outlines
from monai_tpseg.studies.rle import RunMask
from monai_tpseg.studies.slide_files import contours_geojson, slide_overlay, write_pyramid
from monai_tpseg.studies.slide_lesions import measure_regions
from monai_tpseg.tasks import Modality
from monai_tpseg.transforms.meta import INTENSITY
from monai_tpseg.transforms.pipelines import load_pipeline, slide_mpp
from monai_tpseg.transforms.slide_reader import SlideGrid, SlideReader

__all__ = ["is_glass", "segment_slide"]

_THUMBNAIL = 1024  # pixels of the longer side
_SHRINK = 8  # pixels that are averaged before a window is judged: noise and fine dust go
_CHROMA, _DARK = 12, 190  # of 255: largest less smallest of red, green, blue; the brightest of them
_SHARE = 0.002  # of a window: less tissue than this is none


def is_glass(window: NDArray[np.uint8]) -> bool:
    """Say whether a window of a slide shows empty glass.

    A place is tissue where, averaged over 8 x 8 pixels, the colours differ by more than 12 of 255 or none is brighter
    than 190; a window with less than 0.2 % of such places is glass. Faint tissue counts rather than is missed.

    Args:
        window: (3, h, w) RGB, 0 to 255; sides of at least 8 pixels.
    """
    rows, columns = (side // _SHRINK for side in window.shape[1:])
    small = window[:, : rows * _SHRINK, : columns * _SHRINK].reshape(3, rows, _SHRINK, columns, _SHRINK).mean((2, 4))
    brightest = small.max(axis=0)
    tissue = (brightest - small.min(axis=0) > _CHROMA) | (brightest < _DARK)
    return bool(tissue.mean() < _SHARE)


@dataclass(frozen=True)
class _Found:
    mask: RunMask
    polygons: list[Polygon]
    lesions: list[Lesion]
    regions: list[int]  # of the mask, in the order of the lesions
    windows: int
    glass: int


def segment_slide(
    model: Model, path: Path, task: str, name: str, folder: Path, quiet: bool = True
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Segment a slide and write its mask, contours, table of lesions and overlay into `folder`.

    Args:
        model: weights and settings; `settings.mpp` or the modality's own is the magnification.
        path: see `SlideReader`.
        task: a task of pathology that the weights know.
        name: of the case.
        folder: of the case; made.
        quiet: no progress bar.

    Returns:
        flags of the result, and the fields of its record: `files`, `sha256`, `lesions`, `voxels`, `decisions`.

    Raises:
        ReadError: see `SlideReader`.
    """
    settings = model.settings
    mpp = settings.mpp or slide_mpp()
    reader = SlideReader(path, mpp, settings.slide_mpp)
    grid = reader.grid
    found = _segment(model, reader, task, name, quiet)
    files = _write(found, reader, task, name, folder)
    decisions = {
        "source_kind": "slide",
        "levels": len(grid.levels),
        "source_shape": list(grid.size),
        "mask_shape": list(grid.shape),
        "slide_mpp": [round(step, 6) for step in grid.slide_mpp],
        "mpp": mpp,
        "downsample": [round(step, 6) for step in grid.scale],
        "windows": found.windows,
        "windows_glass": found.glass,
    }
    voxels = int(found.mask.lengths.sum())
    digests = {path: file_sha256(folder / path) for path in files.values()}
    more = {"files": files, "sha256": digests, "lesions": len(found.lesions), "voxels": voxels, "decisions": decisions}
    return _flags(found, grid), more


def _segment(model: Model, reader: SlideReader, task: str, name: str, quiet: bool) -> _Found:
    inferer = SlideInferer(model.info.image_size, sw_batch_size=model.slice_batch, device=model.device)
    corners = inferer.grid(reader.grid.shape).corners
    windows = _Windows(reader, corners, inferer.roi_size, model.settings.skip_glass, quiet)
    row, limit = model.info.tasks.index(task), model.settings.threshold
    strips = inferer(windows, reader.grid.shape, model.network, row)
    parts = [RunMask.encode((strip >= limit).numpy(), strip.numpy()) for strip in strips]
    mask = RunMask.stack(parts).without_small(model.settings.min_lesion_area)
    polygons = outlines(mask)
    lesions, regions = measure_regions(mask, polygons, reader.grid, task, name)
    return _Found(mask, polygons, lesions, regions, len(corners), windows.glass)


class _Windows:
    """The windows of a slide as network input, one after the other; None for glass."""

    def __init__(
        self,
        reader: SlideReader,
        corners: list[tuple[int, int]],
        size: tuple[int, int],
        skip_glass: bool,
        quiet: bool,
    ) -> None:
        self.reader, self.corners, self.size, self.skip_glass, self.quiet = reader, corners, size, skip_glass, quiet
        self.glass = 0
        self._normalise = load_pipeline(Modality.PATHOLOGY, "display")

    def __iter__(self) -> Iterator[Tensor | None]:
        for top, left in tqdm(self.corners, unit="window", desc="slide", leave=False, disable=self.quiet):
            window = self.reader.read(top, left, *self.size)
            if self.skip_glass and is_glass(window):
                self.glass += 1
                yield None
            else:
                image = MetaTensor(torch.from_numpy(window.astype(np.float32)), meta={INTENSITY: "display"})
                yield self._normalise({IMAGE: image})[IMAGE].as_tensor()


def _flags(found: _Found, grid: SlideGrid) -> tuple[str, ...]:
    mask = found.mask
    voxels = max(sum(lesion.voxels for lesion in found.lesions), 1)
    mean = sum(lesion.mean_probability * lesion.voxels for lesion in found.lesions) / voxels
    (height, width), edge = mask.shape, np.zeros(len(mask.row), bool)
    for values, end in ((mask.row, 0), (mask.row, height - 1), (mask.start, 0), (mask.end, width)):
        edge |= values == end
    flags = {
        "enlarged": min(grid.scale) < 0.95,  # the slide is coarser than the training: details are missing
        "no_tissue": found.glass == found.windows,
        "empty": not found.lesions,
        "touches_border": bool(edge.any()),
        "uncertain": bool(found.lesions) and mean < UNCERTAIN,
    }
    return tuple(name for name, raised in flags.items() if raised)


def _write(found: _Found, reader: SlideReader, task: str, name: str, folder: Path) -> dict[str, str]:
    base = f"{name}_{task}"
    files = {
        "mask": f"{base}_mask.tiff",
        "contours": f"{base}_contours.geojson",
        "lesions": "lesions.csv",
        "overlay": f"{base}_overlay.png",
    }
    write_pyramid(found.mask, reader.grid.mpp, folder / files["mask"])
    contours = contours_geojson(found.polygons, found.lesions, found.regions, reader.grid.scale, task)
    (folder / files["contours"]).write_bytes(contours)
    (folder / files["lesions"]).write_bytes(lesions_csv(found.lesions))
    side = min(_THUMBNAIL, max(found.mask.shape))
    slide_overlay(reader.thumbnail(side), found.mask, task).save(folder / files["overlay"], format="PNG")
    return files
