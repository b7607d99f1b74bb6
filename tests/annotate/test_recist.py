"""The axes of a lesion against plain loops, and against an ellipse whose axes are known."""

from __future__ import annotations

from itertools import combinations, product
from math import dist
from pathlib import Path

import numpy as np
import pytest

from monai_tpseg.annotate import PromptModel, Session
from monai_tpseg.annotate.session.recist import axes_of


@pytest.mark.parametrize("sides", [(1.0, 1.0), (0.7, 1.9)])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, 2.5])
def test_an_ellipse_has_its_axes(angle: float, sides: tuple[float, float]) -> None:
    rows, columns = np.indices((160, 160))
    y, x = (rows - 80.0) * sides[0], (columns - 80.0) * sides[1]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    found = axes_of((along / 40) ** 2 + (across / 22) ** 2 <= 1, sides, 7)
    pixel = float(np.hypot(*sides))
    assert found.slice == 7
    assert found.sizes == pytest.approx((80, 44), abs=1.5 * pixel)
    long, short = (np.diff(np.array(axis) * sides, axis=0)[0] for axis in (found.long, found.short))
    assert abs(long @ short) < 0.02 * np.linalg.norm(long) * np.linalg.norm(short)
    for axis, size in ((long, found.sizes[0]), (short, found.sizes[1])):
        assert np.linalg.norm(axis) == pytest.approx(size, abs=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_any_shape_is_as_long_as_its_corners_are_apart(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) > 0.6
    corners = [(r + a, c + b) for r, c in np.argwhere(mask) for a, b in product((-0.5, 0.5), repeat=2)]
    longest = max(dist(a, b) for a, b in combinations(corners, 2))
    found = axes_of(mask)
    assert found.sizes[0] == pytest.approx(longest, abs=1e-3)
    along = (np.array(found.long[1]) - found.long[0]) / longest
    # across, no corner to corner line at a right angle to the long axis is longer than the hull is wide
    width = np.ptp(np.array(corners) @ np.array([-along[1], along[0]]))
    assert 0 < found.sizes[1] <= width + 1e-3
    assert found.sizes[1] >= width / 2 - 1e-3  # a convex shape is somewhere at least half as wide as its extent


def test_one_pixel_measures_its_diagonals() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    assert axes_of(mask).sizes == pytest.approx((2**0.5, 2**0.5), abs=1e-3)


def test_the_list_has_the_axes_of_the_longest_slice(sources: dict[str, Path], model: PromptModel) -> None:
    session = Session(sources["series"], model, "lung_infection")
    assert session.spacing is not None
    high, wide = session.spacing[:2]
    session.brush([(10, 10)], 3, True, 2)
    session.brush([(10, 6), (10, 20)], 0.5, True, 3)  # one pixel high, 15 wide
    (lesion,) = session.lesions()
    assert lesion.axes.slice == 3
    assert lesion.axes.sizes[0] == pytest.approx(np.hypot(high, 15 * wide), abs=1e-3)
    assert {end[1] for end in lesion.axes.long} == {5.5, 20.5}
    assert {end[0] for end in lesion.axes.long} == {9.5, 10.5}


def test_values_units_and_places(sources: dict[str, Path], model: PromptModel) -> None:
    ct = Session(sources["series"], model, "lung_infection")
    pixel, values = ct.pixel(3, 5, 2), ct._pixels.image
    assert pixel.values == (float(values[0, 3, 5, 2]),)
    assert pixel.unit == "HU"
    assert pixel.position == pytest.approx((np.asarray(values.affine) @ (3, 5, 2, 1))[:3].tolist())
    mr = Session(sources["mr"], model, "brain_tumor")
    assert mr.pixel(0, 0).unit == ""
    low, high = mr.windows["2 to 98 %"]
    shown = np.asarray(mr._pixels.image[0])
    assert (low, high) == pytest.approx(np.percentile(shown, (2, 98)).tolist(), rel=1e-5)
    picture = Session(sources["picture"], model, "skin_lesion")
    assert len(picture.pixel(3, 5).values) == 3
    assert (picture.pixel(3, 5).unit, picture.pixel(3, 5).position, picture.windows) == ("", None, {})
