"""The overlay shows the lesion where it is, and the slices that matter."""

from __future__ import annotations

import numpy as np
import pytest

from monai_tpseg.transforms.overlay import draw_overlay, montage_slices


def test_montage_is_around_the_largest_lesion() -> None:
    mask = np.zeros((8, 8, 40), dtype=np.uint8)
    mask[0, 0, 2] = 1
    mask[3:6, 3:6, 20:25] = 1
    slices = montage_slices(mask)
    assert len(slices) == 12
    assert set(range(20, 25)) <= set(slices)
    assert slices == list(range(slices[0], slices[0] + 12))


def test_montage_stays_inside_the_volume() -> None:
    mask = np.zeros((4, 4, 20), dtype=np.uint8)
    mask[1, 1, 19] = 1
    assert montage_slices(mask) == list(range(8, 20))
    assert montage_slices(mask[..., :5]) == [0, 1, 2, 3, 4]
    assert montage_slices(np.zeros((4, 4, 100)))[0] == 0
    assert montage_slices(np.zeros((4, 4, 100)))[-1] == 99


def test_montage_of_a_long_lesion_is_spread_over_it() -> None:
    mask = np.zeros((4, 4, 60), dtype=np.uint8)
    mask[1:3, 1:3, 10:51] = 1
    slices = montage_slices(mask)
    assert (slices[0], slices[-1], len(set(slices))) == (10, 50, 12)


def test_contour_lies_on_the_edge_and_the_fill_lets_the_picture_through() -> None:
    mask = np.zeros((400, 500), dtype=np.uint8)
    mask[100:200, 300:400] = 1
    sheet = np.asarray(draw_overlay(np.full((3, 400, 500), 0.5), mask, "skin lesion")).astype(int)
    assert sheet.shape[1:] == (500, 3)
    shown = sheet[-400:]
    assert (shown[100:200, 300] == (0, 255, 255)).all()
    assert (shown[101, 300:400] == (0, 255, 255)).all()
    assert (shown[150, 350] == (96, 160, 160)).all()  # 3/4 of the grey, 1/4 of the colour
    assert (shown[50, 50] == 128).all()
    assert (sheet[:24] == 255).any()  # the name of the task


def test_each_grey_inside_is_mixed_with_the_colour() -> None:
    greys = np.tile(np.repeat(np.arange(256), 2), (400, 1))
    sheet = np.asarray(draw_overlay(np.stack([greys] * 3) / 255, np.ones((400, 512), np.uint8), "skin lesion"))
    inside = sheet[-400:].astype(int)[200, 2:-2]
    right = np.rint(0.75 * greys[200, 2:-2, None] + 0.25 * np.array([0, 255, 255])).astype(int)
    np.testing.assert_array_equal(inside, right)


def test_a_lesion_of_one_pixel_is_not_lost_and_gets_a_ring() -> None:
    mask = np.zeros((3000, 4001), dtype=np.uint8)
    mask[501, 803] = 1
    mask[1500:2200, 2000:2900] = 1
    sheet = np.asarray(draw_overlay(np.zeros((3, 3000, 4001)), mask, "skin lesion")).astype(int)[24:]
    scale = 1024 / 4001
    row, column = round(501.5 * scale - 0.5), round(803.5 * scale - 0.5)
    assert (sheet[row - 1 : row + 2, column - 1 : column + 2] == (0, 255, 255)).all(axis=-1).any()
    ring = np.argwhere((sheet == (255, 214, 0)).all(axis=-1))
    assert np.abs(np.linalg.norm(ring - (row, column), axis=1) - 12).max() < 3  # and the large one has none


def test_slices_have_the_aspect_of_the_tissue() -> None:
    mask = np.zeros((10, 20, 3), dtype=np.uint8)
    sheet = draw_overlay(np.zeros((3, 10, 20, 3)), mask, "brain tumor", spacing=(2.0, 1.0, 5.0))
    assert sheet.size == (3 * 320, 320 + 24)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        draw_overlay(np.zeros((3, 4, 4)), np.zeros((4, 5)), "x")
