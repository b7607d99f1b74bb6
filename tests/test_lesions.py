"""Lesions are told apart by a flood fill, written down here once more without scipy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_tpseg.lesions import label_lesions


def flooded(mask: NDArray[Any], across_slices: bool) -> list[set[tuple[int, ...]]]:
    """The lesions of a mask, the largest first, those of equal size by their first pixel."""
    left = {tuple(int(n) for n in place) for place in np.argwhere(mask)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        lesion, edge = {start}, [start]
        while edge:
            place = edge.pop()
            for step in product((-1, 0, 1), repeat=mask.ndim):
                if not across_slices and step[-1]:
                    continue
                near = tuple(a + b for a, b in zip(place, step, strict=True))
                if near in left:
                    left.remove(near)
                    lesion.add(near)
                    edge.append(near)
        found.append(lesion)
    return sorted(found, key=len, reverse=True)  # stable


@pytest.mark.parametrize(("shape", "across_slices"), [((17, 23), True), ((9, 11, 7), True), ((9, 11, 7), False)])
@pytest.mark.parametrize("smallest", [0, 1, 3])
def test_lesions_are_those_of_a_flood_fill(shape: tuple[int, ...], smallest: int, across_slices: bool) -> None:
    mask = np.random.default_rng(3).random(shape) < (0.25 if len(shape) == 2 else 0.06)
    wanted = [lesion for lesion in flooded(mask, across_slices) if len(lesion) >= smallest]
    labels = label_lesions(mask, smallest, across_slices)
    assert labels.dtype == np.int32
    assert int(labels.max()) == len(wanted) > 2
    for number, lesion in enumerate(wanted, start=1):
        assert {tuple(int(n) for n in place) for place in np.argwhere(labels == number)} == lesion


def test_an_empty_mask_has_no_lesion() -> None:
    assert not label_lesions(np.zeros((4, 5))).any()
    assert not label_lesions(np.eye(4), smallest=5).any()
