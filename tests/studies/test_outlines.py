"""Runs and outlines of masks: against scipy's labels and shapely's polygons."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry import MultiPolygon, box
from shapely.geometry import Polygon as Shape
from shapely.ops import unary_union

from monai_tpseg.results.outlines import doubled_area, outlines
from monai_tpseg.results.run_length import RunMask


def masks(count: int = 60) -> list[NDArray[np.bool_]]:
    """Small random masks from empty to full: corners that touch, holes in holes, edges."""
    rng = np.random.default_rng(0)
    return [rng.random((rng.integers(1, 14), rng.integers(1, 14))) < n / (count - 1) for n in range(count)]


@pytest.mark.parametrize("height", [1, 4, 512])
def test_a_mask_survives_in_parts(height: int) -> None:
    for mask in masks():
        parts = [RunMask.encode(mask[top : top + height]) for top in range(0, len(mask), height)]
        runs = RunMask.stack(parts)
        assert runs.shape == mask.shape
        assert np.array_equal(np.concatenate(list(runs.blocks(height))), mask)


@pytest.mark.parametrize("diagonal", [True, False])
def test_regions_are_those_of_scipy(diagonal: bool) -> None:
    for mask in masks():
        expected, count = ndimage.label(mask, np.ones((3, 3)) if diagonal else None)
        runs = RunMask.encode(mask)
        found, of_run = runs.labels(diagonal)
        assert found == count
        pairs = {(int(expected[r, c]), int(n)) for r, c, n in zip(runs.row, runs.start, of_run, strict=True)}
        assert len(pairs) == count


def test_weights_are_sums_over_the_runs() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6)
    mask = np.array([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 1]], bool)
    assert RunMask.encode(mask, values).weight.tolist() == [1, 3, 8 + 9 + 10 + 11]


def test_small_regions_go_and_halving_keeps_the_majority() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1, 1], mask[3:6, 3:6] = True, True
    kept = RunMask.encode(mask).without_small(2).decode(0, 6)
    assert kept.sum() == 9
    small = RunMask.encode(mask).halved()
    assert small.shape == (3, 4)
    assert np.array_equal(small.decode(0, 3), mask.reshape(3, 2, 4, 2).sum((1, 3)) >= 2)


def test_outlines_are_valid_polygons_that_cover_exactly_the_mask() -> None:
    for mask in masks():
        found = outlines(RunMask.encode(mask))
        shape = MultiPolygon([Shape(one.outer, one.holes) for one in found])
        pixels = unary_union([box(c, r, c + 1, r + 1) for r, c in np.argwhere(mask)])
        assert shape.is_valid
        assert shape.symmetric_difference(pixels).area == 0
        assert all(doubled_area(one.outer) > 0 for one in found)
        assert all(doubled_area(hole) < 0 for one in found for hole in one.holes)
        assert len({one.region for one in found}) == ndimage.label(mask, np.ones((3, 3)))[1]
