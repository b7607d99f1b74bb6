"""Groups of boxes whose places are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_tpseg.follow import match_lesions
from monai_tpseg.follow.matching import Place
from monai_tpseg.lesions import label_lesions

from .scans import boxes, grid

SHAPE, SPACING = (40, 40, 20), (1.0, 1.0, 3.0)


def place(*corners: tuple[int, ...], affine: NDArray[np.float64] | None = None) -> Place:
    return Place(label_lesions(boxes(*corners, shape=SHAPE)), grid(SHAPE, SPACING) if affine is None else affine)


def found(first: Place, second: Place, **more: object) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    return [group[:3] for group in match_lesions(first, second, **more)]  # type: ignore[arg-type]


def test_what_overlaps_is_one_lesion_and_the_rest_is_new_or_gone() -> None:
    first = place((2, 2, 2, 6, 6, 4), (20, 20, 8, 5, 5, 3))
    second = place((3, 2, 2, 8, 8, 4), (30, 5, 12, 4, 4, 3))
    groups = match_lesions(first, second)
    assert [group[:3] for group in groups] == [((1,), (1,), "matched"), ((2,), (), "gone"), ((), (2,), "new")]
    assert groups[0].distance == pytest.approx(np.hypot(2.0, 1.0), abs=0.01)  # centres 5.5 - 4.5 + 1 and 5.5 - 4.5


def test_merged_and_split_are_each_others_reverse() -> None:
    two, one = place((2, 2, 2, 6, 6, 4), (12, 2, 2, 4, 6, 4)), place((2, 2, 2, 14, 6, 4))
    assert found(two, one) == [((1, 2), (1,), "merged")]
    assert found(one, two) == [((1,), (1, 2), "split")]


def test_chains_over_both_sides_are_regrouped() -> None:
    first = place((2, 2, 2, 10, 4, 4), (2, 12, 2, 10, 4, 4))
    second = place((2, 2, 2, 3, 14, 4), (9, 2, 2, 3, 14, 4))
    assert found(first, second) == [((1, 2), (1, 2), "regrouped")]


def test_small_lesions_that_moved_are_paired_by_distance_if_it_is_mutual() -> None:
    first, second = place((10, 10, 5, 2, 2, 1)), place((15, 10, 5, 2, 2, 1))
    assert match_lesions(first, second) == [((1,), (1,), "matched", 5.0)]
    assert found(first, second, tolerance=4.0) == [((1,), (), "gone"), ((), (1,), "new")]
    rivals = place((15, 10, 5, 3, 2, 1), (13, 10, 5, 1, 2, 1))  # the second is nearer
    assert found(first, rivals) == [((1,), (2,), "matched"), ((), (1,), "new")]


def test_thick_slices_count_in_millimetres() -> None:
    first, second = place((10, 10, 5, 2, 2, 1)), place((10, 10, 9, 2, 2, 1))  # four slices of 3 mm
    assert found(first, second, tolerance=11.9) == [((1,), (), "gone"), ((), (1,), "new")]
    assert found(first, second, tolerance=12.1) == [((1,), (1,), "matched")]


def test_absence_outside_of_the_other_volume_means_nothing() -> None:
    affine = grid(SHAPE, SPACING)
    affine[0, 3] += 20.0  # the second scan shows what lies 20 mm further to the right
    first, second = place((2, 2, 2, 6, 6, 4)), place((30, 30, 2, 6, 6, 4), affine=affine)
    assert found(first, second) == [((1,), (), "not_covered_any_more"), ((), (1,), "not_covered_before")]


def test_the_alignment_is_applied() -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = 14.0, -3.0, 6.0
    first, second = place((5, 10, 5, 4, 4, 3)), place((19, 7, 7, 4, 4, 3))
    assert match_lesions(first, second, matrix) == [((1,), (1,), "matched", 0.0)]
    assert found(first, second) == [((1,), (), "gone"), ((), (1,), "new")]


def test_nothing_in_one_or_both() -> None:
    assert match_lesions(place(), place()) == []
    assert found(place(), place((2, 2, 2, 4, 4, 4))) == [((), (1,), "new")]
    assert found(place((2, 2, 2, 4, 4, 4)), place()) == [((1,), (), "gone")]
    with pytest.raises(ValueError, match="0 mm or more, got -1"):
        match_lesions(place(), place(), tolerance=-1)
