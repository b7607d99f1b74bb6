"""The files of a segmented slide: a mask pyramid, contours for viewers, and an overview picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.catalogue import get_title
from monai_tpseg.files import complete
from monai_tpseg.results.measurements import Lesion
from monai_tpseg.results.outlines import Polygon, Ring
from monai_tpseg.results.run_length import RunMask
from monai_tpseg.transforms import draw_overlay

__all__ = ["contours_geojson", "slide_overlay", "write_pyramid"]

tifffile, _ = optional_import("tifffile")

_TILE = 512  # pixels per side
_BUFFER = 2**24  # bytes of tiles that wait for compression
_SMALLEST = 1024  # pixels: a level with shorter sides gets no smaller level
_COLOUR = [0, 255, 255]  # cyan, as in the overlay pictures


def write_pyramid(mask: RunMask, mpp: tuple[float, float], path: Path) -> None:
    """Write a mask as a tiled, pyramidal TIFF: uint8 {0, 255}, deflated, each level half the size of the one before.

    Args:
        mask: the finest level.
        mpp: (row, column) micrometres per pixel of the finest level; written as its resolution.
        path: file to write or replace.
    """
    levels = [mask]
    while max(levels[-1].shape) > _SMALLEST and min(levels[-1].shape) > 1:
        levels.append(levels[-1].halved())
    big = mask.shape[0] * mask.shape[1] > 2**31  # bytes: smaller masks fit the classic format even uncompressed
    with complete(path) as part, tifffile.TiffWriter(part, bigtiff=big) as file:
        for n, level in enumerate(levels):
            per_centimetre = [1e4 / (step * side / own) for step, side, own in
                              zip(mpp[::-1], mask.shape[::-1], level.shape[::-1], strict=True)]  # fmt: skip
            file.write(
                _tiles(level), shape=level.shape, dtype=np.uint8, tile=(_TILE, _TILE), photometric="minisblack",
                compression="zlib", subfiletype=int(n > 0), resolution=per_centimetre, resolutionunit="CENTIMETER",
                metadata=None, software=False, buffersize=_BUFFER,
            )  # fmt: skip


def contours_geojson(
    polygons: Sequence[Polygon],
    lesions: Sequence[Lesion],
    regions: Sequence[int],
    scale: tuple[float, float],
    task: str,
) -> bytes:
    """Return the contours as GeoJSON for QuPath and other viewers: one feature per lesion, largest first.

    Coordinates are pixels of the finest level of the slide, x to the right and y down; areas are those of the mask.

    Args:
        polygons: polygons of all regions, in pixels of the mask.
        lesions: lesions to write.
        regions: region of each lesion.
        scale: (row, column) pixels of the finest level per pixel of the mask.
        task: name of the task; its title is the name of the class.
    """
    parts: dict[int, list[Any]] = {}
    for polygon in polygons:
        rings = [_closed(ring, scale) for ring in (polygon.outer, *polygon.holes)]
        parts.setdefault(polygon.region, []).append(rings)
    features = [_feature(lesion, parts[region], task) for lesion, region in zip(lesions, regions, strict=True)]
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")).encode()


def slide_overlay(
    thumbnail: NDArray[np.uint8], mask: RunMask, task: str, contours: Sequence[RunMask] = (), caption: str = ""
) -> Image.Image:
    """Return the lesions drawn on a thumbnail of the slide; lesions smaller than a pixel stay visible.

    Args:
        thumbnail: (3, h, w), smaller than the mask.
        mask: mask of the whole slide.
        task: name of the task; its title is shown above.
        contours: inner and outer contour, of the shape of `mask`.
        caption: text after the title of the task.
    """
    size = thumbnail.shape[1], thumbnail.shape[2]
    title = f"{get_title(task)}, {caption}" if caption else get_title(task)
    around = [_small(one, size) for one in contours]
    return draw_overlay(thumbnail / 255, _small(mask, size), title, contours=around)


def _small(mask: RunMask, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at the size (h, w) of a thumbnail; a pixel is set if any mask pixel in it is."""
    height, width = size
    rows = mask.row * height // mask.shape[0]
    starts = mask.start * width // mask.shape[1]
    ends = np.maximum(-(-mask.end * width // mask.shape[1]), starts + 1)
    change = np.zeros((height, width + 1), np.int64)
    np.add.at(change, (rows, starts), 1)
    np.add.at(change, (rows, ends), -1)
    found: NDArray[np.bool_] = np.cumsum(change, axis=1)[:, :-1] > 0
    return found


def _tiles(level: RunMask) -> Iterator[NDArray[np.uint8]]:
    """Tiles row by row; the last ones are padded."""
    width = -(-level.shape[1] // _TILE) * _TILE
    for block in level.blocks(_TILE):
        rows = np.zeros((_TILE, width), np.uint8)
        rows[: block.shape[0], : block.shape[1]] = block * np.uint8(255)
        yield from (rows[:, left : left + _TILE] for left in range(0, width, _TILE))


def _closed(ring: Ring, scale: tuple[float, float]) -> list[list[float]]:
    points = (np.concatenate([ring, ring[:1]]) * np.array(scale[::-1])).round(3)
    return points.tolist()  # type: ignore[no-any-return]


def _feature(lesion: Lesion, rings: list[Any], task: str) -> dict[str, Any]:
    single = len(rings) == 1
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": rings[0] if single else rings,
        },
        "properties": {
            "objectType": "annotation",
            "name": f"lesion {lesion.lesion}",
            "classification": {"name": get_title(task), "color": _COLOUR},
            "measurements": {
                "area um^2": lesion.size,
                "longest diameter um": lesion.diameter,
                "mean probability": lesion.mean_probability,
            },
        },
    }
