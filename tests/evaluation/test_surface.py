"""Distances of outlines against distance transforms by hand, also with unequal spacing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.evaluation import surface_measures

Mask = NDArray[np.bool_]


def by_hand(pred: Mask, label: Mask, spacing: tuple[float, ...], tolerance: float) -> tuple[float, float]:
    """HD95 and surface Dice from distance maps; an outline is what erosion by sides takes away."""
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, label)]
    maps = [ndimage.distance_transform_edt(~outline, sampling=spacing) for outline in outlines]
    ways = maps[1][outlines[0]], maps[0][outlines[1]]
    right = sum(int((way <= tolerance).sum()) for way in ways)
    return max(float(np.percentile(way, 95)) for way in ways), right / sum(map(len, ways))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_pictures(spacing: tuple[float, float]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        pred, label = (ndimage.gaussian_filter(generator.normal(size=(40, 31)), 3) > 0.03 for _ in range(2))
        found = surface_measures(torch.from_numpy(pred), torch.from_numpy(label), spacing, 1.1)
        assert found == pytest.approx(by_hand(pred, label, spacing, 1.1), abs=1e-5)


def test_volumes_with_thick_slices() -> None:
    pred, label = np.zeros((12, 12, 8), bool), np.zeros((12, 12, 8), bool)
    label[3:9, 3:9, 2:5] = True
    pred[3:9, 3:9, 2:6] = True  # one slice of 5 mm too much
    found = surface_measures(torch.from_numpy(pred), torch.from_numpy(label), (0.7, 0.7, 5.0), 2.0)
    assert found == pytest.approx(by_hand(pred, label, (0.7, 0.7, 5.0), 2.0), abs=1e-5)
    assert found.hd95 == pytest.approx(5.0)


def test_a_shift_is_the_distance_in_its_unit() -> None:
    label = torch.zeros(30, 30)
    label[10:20, 10:11] = 1  # a line of one pixel
    pred = label.roll(3, dims=1)
    assert surface_measures(pred, label, (1.0, 0.25)) == pytest.approx((0.75, 1.0))
    assert surface_measures(pred, label) == pytest.approx((3.0, 0.0))
    assert surface_measures(pred, label, tolerance=3.0) == pytest.approx((3.0, 1.0))  # at the tolerance is within


def test_empty_masks_have_no_distance() -> None:
    none, some = torch.zeros(8, 8), torch.ones(8, 8)
    assert surface_measures(none, none) == (None, None)
    assert surface_measures(some, none) == surface_measures(none, some) == (None, 0.0)
    assert surface_measures(some, some) == (0.0, 1.0)
    with pytest.raises(ValueError, match="same shape"):
        surface_measures(none, none[:4])
