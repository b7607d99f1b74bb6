"""Measurements of the lesions of a slide, from the runs and the outlines of its mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from monai_tpseg.io.dicom.tracking import tracking_id
from monai_tpseg.io.slide_reader import SlideGrid
from monai_tpseg.results.measurements import Lesion
from monai_tpseg.results.outlines import Polygon
from monai_tpseg.results.run_length import RunMask

__all__ = ["measure_regions"]


def measure_regions(
    mask: RunMask, polygons: Sequence[Polygon], grid: SlideGrid, task: str, name: str
) -> tuple[list[Lesion], list[int]]:
    """Return the lesions of a mask, largest first, and the region of each.

    Areas are in square micrometres, diameters in micrometres, between two corners of the pixels of a lesion; centroids
    are row and column of the finest level of the slide.

    Args:
        mask: mask on `grid`; the weights of its runs are sums of probabilities.
        polygons: outlines of `mask`.
        grid: pixel grid of the mask on the slide.
        task: name of the task.
        name: name of the case, for the tracking ids.
    """
    count, of_run = mask.labels()
    pixels = np.bincount(of_run, mask.lengths, count)
    means = np.bincount(of_run, mask.weight, count) / pixels
    rows = np.bincount(of_run, mask.lengths * mask.row, count) / pixels
    columns = np.bincount(of_run, mask.lengths * (mask.start + mask.end - 1) / 2, count) / pixels
    corners: dict[int, list[NDArray[np.int64]]] = {}
    for polygon in polygons:
        corners.setdefault(polygon.region, []).append(polygon.outer)
    order = [int(n) for n in np.argsort(-pixels, kind="stable")]
    area, step, scale = grid.mpp[0] * grid.mpp[1], np.array(grid.mpp[::-1]), grid.scale
    lesions = [
        Lesion(
            lesion=rank,
            tracking_id=tracking_id(name, task, rank),
            voxels=int(pixels[n]),
            size=round(float(pixels[n]) * area, 3),
            size_unit="um2",
            diameter=round(_longest(np.concatenate(corners[n]) * step), 3),
            diameter_unit="um",
            right_mm=None,
            anterior_mm=None,
            superior_mm=None,
            row=round((float(rows[n]) + 0.5) * scale[0] - 0.5, 3),  # centres of pixels, of mask and of slide
            column=round((float(columns[n]) + 0.5) * scale[1] - 0.5, 3),
            slice=None,
            mean_probability=round(float(means[n]), 4),
        )
        for rank, n in enumerate(order, start=1)
    ]
    return lesions, order


def _longest(points: NDArray[np.float64]) -> float:
    return float(pdist(points[ConvexHull(points).vertices]).max())
