"""Ultrasound regions: position of the picture on the screen and size of its pixels (PS3.3 C.8.5.5)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from monai_tpseg.io.meta_keys import REGION, REGIONS, SPACING

__all__ = ["Region", "region_meta", "regions"]

_TWO_D, _CENTIMETRES = 1, 3  # RegionSpatialFormat, PhysicalUnitsXDirection and PhysicalUnitsYDirection
_SAME = 1e-3  # relative tolerance of the pixel sizes of two regions


class Region(NamedTuple):
    """A 2D region calibrated in centimetres: half-open bounds in pixels, pixel edges in millimetres."""

    top: int
    left: int
    bottom: int
    right: int
    row_mm: float
    column_mm: float


def regions(dataset: Any) -> list[Region]:
    """Return the usable regions of `dataset` (SequenceOfUltrasoundRegions).

    A region is used if it is a 2D picture with both axes in centimetres, is not empty, and lies inside the frame. The
    standard's bounds are inclusive; a region that ends at the number of rows or columns is one pixel too long and is
    cropped, one that extends further is ignored.
    """
    found = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        region = _region(item, int(dataset.Rows), int(dataset.Columns))
        if region is not None:
            found.append(region)
    return found


def _region(item: Any, rows: int, columns: int) -> Region | None:
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    units = (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection"))
    edges = (item.get("PhysicalDeltaX"), item.get("PhysicalDeltaY"))
    if item.get("RegionSpatialFormat") != _TWO_D or units != (_CENTIMETRES, _CENTIMETRES) or None in edges:
        return None
    if any(item.get(name) is None for name in names):
        return None
    left, top, right, bottom = (int(item[name].value) for name in names)
    column_mm, row_mm = (abs(float(edge)) * 10 for edge in edges)
    inside = 0 <= left < right <= columns and 0 <= top < bottom <= rows
    if not inside or not (0 < row_mm < np.inf and 0 < column_mm < np.inf):
        return None
    return Region(top, left, min(bottom + 1, rows), min(right + 1, columns), row_mm, column_mm)


def region_meta(dataset: Any) -> dict[str, Any]:
    """Return the regions of `dataset` by the keys of `monai_tpseg.io.meta_keys`.

    Regions may overlap (PS3.3 C.8.5.5.1): a colour box lies on its picture. Therefore the region that contains all
    others is used. Pictures side by side are not separated: the whole screen is segmented.

    Returns:
        `spacing` if all usable regions have the same pixel size; `region` if there is one, or one contains the
        others; otherwise `regions`, their number; nothing if there is none.
    """
    found = regions(dataset)
    if not found:
        return {}
    edges = np.array([region[4:] for region in found])
    meta: dict[str, Any] = {}
    if np.abs(edges - edges[0]).max() <= _SAME * edges[0].min():
        meta[SPACING] = edges[0]
    outer = next((region for region in found if all(_holds(region, other) for other in found)), None)
    return meta | ({REGIONS: len(found)} if outer is None else {REGION: np.array(outer[:4])})


def _holds(outer: Region, inner: Region) -> bool:
    begins = outer.top <= inner.top and outer.left <= inner.left
    return begins and outer.bottom >= inner.bottom and outer.right >= inner.right
