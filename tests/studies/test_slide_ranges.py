"""Sizes of the lesions of a slide within both contours, against masks of pixels that numpy counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from monai_tpseg.io.slide_reader import SlideGrid
from monai_tpseg.results.measurements import Lesion, measure_lesions, with_range
from monai_tpseg.results.outlines import outlines
from monai_tpseg.results.run_length import RunMask
from monai_tpseg.results.slide_measurements import measure_regions
from monai_tpseg.results.slide_ranges import with_slide_range
from monai_tpseg.segment import find_lesions
from monai_tpseg.trust.record import Contours

MPP = 0.5, 0.6
CORNERS = np.ones((3, 3))


def masks(seed: int, shape: tuple[int, int] = (90, 130)) -> tuple[NDArray[np.bool_], ...]:
    """Inner, best and outer: one field cut at three heights."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    inner, best, outer = (np.quantile(field, share) for share in (0.95, 0.85, 0.65))
    return field >= inner, field >= best, field >= outer


def ranged(inner: Any, best: Any, outer: Any, cells: int = 2**22) -> list[Lesion]:
    runs = RunMask.encode(best)
    grid = cast(SlideGrid, SimpleNamespace(mpp=MPP, scale=(1.0, 1.0)))
    lesions, regions = measure_regions(runs, outlines(runs), grid, "adenocarcinoma", "c")
    return with_slide_range(lesions, regions, runs, RunMask.encode(inner), RunMask.encode(outer), MPP, cells)


def expected(inner: Any, best: Any, outer: Any) -> list[tuple[int, int, int, int]]:
    """Pixels of each lesion, within the inner, and the least and the most within the outer contour, largest first.

    Both differ by the pixels that are equally far from two lesions.
    """
    labels, count = ndimage.label(best, structure=CORNERS)
    parts, _ = ndimage.label(outer, structure=CORNERS)
    places = [np.argwhere(labels == n) for n in range(1, count + 1)]
    low, high = np.zeros(count, int), np.zeros(count, int)
    for pixel in np.argwhere(outer):
        near = [n for n in range(count) if parts[tuple(places[n][0])] == parts[tuple(pixel)]]
        if near:
            far = np.array([cdist([pixel * MPP], places[n] * MPP).min() for n in near])
            nearest = [n for n, one in zip(near, far, strict=True) if one <= far.min() + 1e-9]
            high[nearest] += 1
            low[nearest] += len(nearest) == 1
    found = [(int((labels == n + 1).sum()), int((inner & (labels == n + 1)).sum()), int(low[n]), int(high[n]))
             for n in range(count)]  # fmt: skip
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("seed", range(3))
def test_sizes_are_those_of_the_pixels(seed: int) -> None:
    inner, best, outer = masks(seed)
    truth, area = expected(inner, best, outer), MPP[0] * MPP[1]
    found = ranged(inner, best, outer)
    assert [one.voxels for one in found] == [one[0] for one in truth]
    assert len({one.voxels for one in found}) == len(found) > 3
    for one, (_, within, low, high) in zip(found, truth, strict=True):
        assert one.size_inner == pytest.approx(within * area, abs=1e-3)
        assert one.size_outer is not None
        assert low * area - 1e-3 <= one.size_outer <= high * area + 1e-3
    parts, _ = ndimage.label(outer, structure=CORNERS)
    held = np.isin(parts, np.unique(parts[best])).sum()
    assert sum(one.size_outer or 0 for one in found) == pytest.approx(held * area, abs=0.01)
    assert held < outer.sum() or seed  # parts without a lesion are left out


def test_a_coarser_grid_keeps_the_sum_and_stays_near() -> None:
    inner, best, outer = masks(1)
    fine, coarse = (ranged(inner, best, outer, cells) for cells in (2**22, 1000))
    sizes = [np.array([one.size_outer for one in found], float) for found in (fine, coarse)]
    assert sizes[0].sum() == pytest.approx(sizes[1].sum(), abs=0.01)
    assert np.abs(sizes[0] - sizes[1]).sum() < 0.1 * sizes[0].sum()
    assert all(one.size <= (one.size_outer or 0) for one in coarse)


def test_a_lesion_that_was_dropped_has_no_part_in_it() -> None:
    """The smallest regions of a mask are dropped on request, and still lie within both contours."""
    best = np.zeros((20, 40), bool)
    best[5:12, 5:15] = True
    every = best.copy()
    every[5:7, 30:32] = True
    (one,) = ranged(every, best, ndimage.binary_dilation(every))
    assert (one.size_inner, one.size_outer) == (pytest.approx(70 * 0.3), pytest.approx(104 * 0.3))


def test_nothing_and_an_empty_inner_contour() -> None:
    none, best = np.zeros((8, 9), bool), np.zeros((8, 9), bool)
    best[2:4, 3:6] = True
    assert ranged(none, none, none) == ranged(none, none, best) == []
    (one,) = ranged(none, best, best)
    assert (one.size_inner, one.size_outer) == (0, pytest.approx(6 * 0.3))


def test_volumes_and_pictures_divide_a_part_alike() -> None:
    """Nearest within the connected part, not the nearest of all, and in millimetres, not in voxels."""
    inner, best, outer = masks(1)
    labels = find_lesions(best.astype(np.uint8), {"source_kind": "picture"})
    meta = {"source_kind": "picture", "spacing": np.array(MPP), "affine": np.diag([*MPP, 1, 1])}
    contours = cast(Contours, SimpleNamespace(inner=torch.tensor(inner[None]), outer=torch.tensor(outer[None])))
    found = with_range(measure_lesions(labels, 0.9 * best, meta, "skin_lesion", "c"), labels, contours, meta)
    slide = ranged(inner, best, outer)
    assert [one.size_inner for one in found] == pytest.approx([one.size_inner for one in slide], abs=1e-3)
    assert [one.size_outer for one in found] == pytest.approx([one.size_outer for one in slide], abs=1e-3)


def test_the_nearest_in_millimetres_of_a_volume() -> None:
    """One part, thick slices: a voxel two rows from one lesion and one slice from the other is nearer to the first."""
    best = np.zeros((9, 1, 2), bool)
    best[0, 0, 0] = best[2, 0, 1] = True
    outer = np.zeros((9, 1, 2), bool)
    outer[0:3, 0, 0] = outer[2, 0, 1] = True
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    meta = {"source_kind": "volume", "spacing": np.array([1.0, 1.0, 5.0]), "affine": affine}
    labels = np.zeros(best.shape, np.int32)
    labels[0, 0, 0], labels[2, 0, 1] = 1, 2
    contours = cast(Contours, SimpleNamespace(inner=torch.tensor(best[None]), outer=torch.tensor(outer[None])))
    first, second = with_range(measure_lesions(labels, 0.9 * best, meta, "brain_tumor", "c"), labels, contours, meta)
    assert (first.size_outer, second.size_outer) == (15.0, 5.0)
