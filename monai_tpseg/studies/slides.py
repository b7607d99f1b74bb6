"""Segmentation of a whole slide: read in windows at the training magnification, segmented, measured and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from monai_tpseg.catalogue import Modality
from monai_tpseg.files import file_sha256
from monai_tpseg.inferers.slide_inferer import SlideInferer
from monai_tpseg.io.meta_keys import INTENSITY
from monai_tpseg.io.slide_reader import SlideGrid
from monai_tpseg.results.case_files import refusal_outcome
from monai_tpseg.results.codes import Outcome
from monai_tpseg.results.measurements import Lesion, is_uncertain, lesions_csv, outcome_with
from monai_tpseg.results.outlines import Polygon, outlines
from monai_tpseg.results.run_length import RunMask
from monai_tpseg.results.slide_files import contours_geojson, slide_overlay, write_pyramid
from monai_tpseg.results.slide_measurements import measure_regions
from monai_tpseg.results.slide_ranges import with_slide_range
from monai_tpseg.segment import PrepareImage
from monai_tpseg.studies.model import Model
from monai_tpseg.trust import Cuts, Trust

__all__ = ["SlideSource", "is_glass", "segment_slide"]

_THUMBNAIL = 1024  # longer side in pixels
_SHRINK = 8  # pixels averaged before a window is classified, to remove noise and fine dust
_CHROMA, _DARK = 12, 190  # of 255: largest less smallest of red, green, blue; the brightest of them
_SHARE = 0.002  # share of a window below which tissue is ignored


def is_glass(window: NDArray[np.uint8]) -> bool:
    """Return whether a window of a slide shows empty glass.

    A block of 8 x 8 pixels is tissue if its mean colours differ by more than 12 of 255 or none is brighter than 190; a
    window with less than 0.2 % of such blocks is glass. The limits include faint tissue.

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
    trust: Trust
    cuts: Cuts | None
    around: dict[str, RunMask]  # inner and outer contour, if requested
    polygons: list[Polygon]
    lesions: list[Lesion]
    regions: list[int]  # regions of the mask, in the order of the lesions
    windows: int
    glass: int


class SlideSource(Protocol):
    """Protocol of slide readers: `SlideReader`, or `SlideProcess` around one."""

    grid: SlideGrid

    def windows(self, corners: Sequence[tuple[int, int]], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Yield (3, height, width) at each corner."""

    def thumbnail(self, side: int) -> NDArray[np.uint8]:
        """Return (3, h, w)."""


def segment_slide(
    model: Model, source: SlideSource, task: str, name: str, folder: Path, quiet: bool = True
) -> tuple[Outcome, dict[str, Any]]:
    """Segment a slide and write its mask, contours, table of lesions and overlay into `folder`.

    Args:
        model: weights and settings.
        source: the slide, at `model.mpp`.
        task: a pathology task of the weights.
        name: name of the case.
        folder: folder of the case; created.
        quiet: show no progress bar.

    Returns:
        the outcome, and the fields of the record: `files`, `sha256`, `lesions`, `voxels`, `decisions`, `trust`; for a
        refused slide only `trust`.

    Raises:
        ReadError: see `SlideReader`.
    """
    found = _segment(model, source, task, name, quiet)
    if model.settings.refuse and found.trust.refused:
        return refusal_outcome(found.trust)
    files = _write(found, source, task, name, folder)
    return outcome_with(_flags(found, source.grid), len(found.lesions)), {
        "files": files,
        "sha256": {file: file_sha256(folder / file) for file in files.values()},
        "lesions": len(found.lesions),
        "voxels": int(found.mask.lengths.sum()),
        "decisions": _decisions(found, source.grid),
        "trust": _trust_record(found),
    }


def _segment(model: Model, source: SlideSource, task: str, name: str, quiet: bool) -> _Found:
    inferer = SlideInferer(model.info.image_size, sw_batch_size=model.slice_batch, device=model.device)
    corners = inferer.grid(source.grid.shape).corners
    pictures = source.windows(corners, inferer.roi_size)
    bar = tqdm(pictures, total=len(corners), unit="window", desc="slide", leave=False, disable=quiet)
    segmenter = model.segmenter
    windows, finish = _Windows(bar, model.settings.skip_glass, segmenter.prepare), segmenter.finish
    row, judge = segmenter.tasks.index(task), segmenter.trust_inferer.judge
    cuts, tally = judge.cuts(row, finish.threshold), judge.tally(row, finish.threshold)
    cut_at = {} if cuts is None else {"inner": cuts.inner_threshold, "outer": cuts.outer_threshold}
    parts: list[RunMask] = []
    beside: dict[str, list[RunMask]] = {kind: [] for kind in cut_at}
    with judge.watch(segmenter.network) as seen:
        for strip in inferer(windows, source.grid.shape, segmenter.network, row):
            prob = strip.numpy()
            parts.append(RunMask.encode(finish.marked(strip).numpy(), prob))
            for kind, value in cut_at.items():
                beside[kind].append(RunMask.encode(prob >= value, prob))
            tally.add(None if seen is None else seen.take(row), _tiles(prob, inferer.roi_size[1]))
    mask = RunMask.stack(parts).without_small(finish.min_lesion_area)
    polygons = outlines(mask)
    lesions, regions = measure_regions(mask, polygons, source.grid, task, name)
    around = {kind: RunMask.stack(found) for kind, found in beside.items()}
    if around:
        lesions = with_slide_range(lesions, regions, mask, around["inner"], around["outer"], source.grid.mpp)
    return _Found(mask, tally.trust(), cuts, around, polygons, lesions, regions, len(corners), windows.glass)


def _tiles(strip: NDArray[Any], width: int) -> Iterator[NDArray[Any]]:
    """Split a strip of the slide into parts as wide as a window."""
    yield from (strip[:, left : left + width] for left in range(0, strip.shape[1], width))


def _trust_record(found: _Found) -> dict[str, Any]:
    record = found.trust.record()
    if found.cuts is not None:
        record["contours"] = found.cuts.record(*(int(found.around[k].lengths.sum()) for k in ("inner", "outer")))
    return record


class _Windows:
    """The windows of a slide as network input, one after the other; None for glass."""

    def __init__(self, pictures: Iterable[NDArray[np.uint8]], skip_glass: bool, prepare: PrepareImage) -> None:
        self.pictures, self.skip_glass, self.prepare = pictures, skip_glass, prepare
        self.glass = 0

    def __iter__(self) -> Iterator[Tensor | None]:
        for window in self.pictures:
            if self.skip_glass and is_glass(window):
                self.glass += 1
                yield None
            else:
                image = MetaTensor(torch.from_numpy(window.astype(np.float32)), meta={INTENSITY: "display"})
                yield self.prepare(image, Modality.PATHOLOGY)


def _flags(found: _Found, grid: SlideGrid) -> tuple[str, ...]:
    mask = found.mask
    (height, width), edge = mask.shape, np.zeros(len(mask.row), bool)
    for values, end in ((mask.row, 0), (mask.row, height - 1), (mask.start, 0), (mask.end, width)):
        edge |= values == end
    flags = {
        "not_this_task": found.trust.refused,
        "enlarged": min(grid.scale) < 0.95,  # the slide is coarser than the training: details are missing
        "no_tissue": found.glass == found.windows,
        "empty": not found.lesions,
        "touches_border": bool(edge.any()),
        "uncertain": is_uncertain(found.lesions),
    }
    return tuple(name for name, raised in flags.items() if raised)


def _decisions(found: _Found, grid: SlideGrid) -> dict[str, Any]:
    return {
        "source_kind": "slide",
        "levels": len(grid.levels),
        "source_shape": list(grid.size),
        "mask_shape": list(grid.shape),
        "slide_mpp": [round(step, 6) for step in grid.slide_mpp],
        "mpp": [round(step, 6) for step in grid.mpp],
        "downsample": [round(step, 6) for step in grid.scale],
        "windows": found.windows,
        "windows_glass": found.glass,
    }


def _write(found: _Found, source: SlideSource, task: str, name: str, folder: Path) -> dict[str, str]:
    base = f"{name}_{task}"
    files = {
        "mask": f"{base}_mask.tiff",
        "contours": f"{base}_contours.geojson",
        "lesions": "lesions.csv",
        "overlay": f"{base}_overlay.png",
    }
    write_pyramid(found.mask, source.grid.mpp, folder / files["mask"])
    for kind, one in found.around.items():
        files[kind] = f"{base}_{kind}.tiff"
        write_pyramid(one, source.grid.mpp, folder / files[kind])
    contours = contours_geojson(found.polygons, found.lesions, found.regions, source.grid.scale, task)
    (folder / files["contours"]).write_bytes(contours)
    (folder / files["lesions"]).write_bytes(lesions_csv(found.lesions))
    side = min(_THUMBNAIL, max(found.mask.shape))
    caption, contours_drawn = found.trust.caption, [found.around[kind] for kind in ("inner", "outer") if found.around]
    overlay = slide_overlay(source.thumbnail(side), found.mask, task, contours_drawn, caption)
    overlay.save(folder / files["overlay"], format="PNG")
    return files
