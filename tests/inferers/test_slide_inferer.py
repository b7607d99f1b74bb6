"""Windows of a large picture: blended as the whole picture would be, whatever their overlap, without seams."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_tpseg.inferers import SlideInferer


def windows(image: Tensor, inferer: SlideInferer) -> Iterator[Tensor]:
    """Cut as a reader does: zeros beyond the picture."""
    height, width = inferer.roi_size
    padded = torch.nn.functional.pad(image, (0, width, 0, height))
    for top, left in inferer.grid((image.shape[1], image.shape[2])).corners:
        yield padded[:, top : top + height, left : left + width]


def pointwise(image: Tensor, task: Tensor) -> Tensor:
    """A network that sees one pixel at a time: windows cannot change what it says."""
    return image[:, :1] + 2 * image[:, 1:2] - image[:, 2:]


@pytest.mark.parametrize("shape", [(100, 140), (32, 64), (20, 90), (90, 20), (33, 65)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_strips_make_the_whole_picture_without_seams(shape: tuple[int, int], overlap: float) -> None:
    image = torch.randn(3, *shape)
    inferer = SlideInferer((32, 64), overlap, sw_batch_size=3)
    strips = list(inferer(windows(image, inferer), shape, pointwise, task=0))
    assert all(strip.shape[0] <= 32 for strip in strips)
    torch.testing.assert_close(torch.cat(strips), pointwise(image[None], torch.zeros(1)).sigmoid()[0, 0])


def test_windows_cover_the_picture_and_overlap_enough() -> None:
    for length in (1, 32, 33, 57, 200, 1001):
        grid = SlideInferer(32, 0.25).grid((length, 40))
        starts = grid.tops
        assert starts[0] == 0
        assert starts[-1] + 32 >= length
        assert all(0 < b - a <= 24 for a, b in pairwise(starts))
        assert grid.corners == [(top, left) for top in starts for left in (0, 8)]


def test_it_equals_the_sliding_window_of_monai_where_the_grids_agree() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 80, 80)
    layer = torch.nn.Conv2d(3, 1, 5, padding=2)

    def network(patch: Tensor, task: object = None) -> Tensor:
        return layer(patch)

    inferer = SlideInferer(32, overlap=0.5)
    with torch.no_grad():
        ours = torch.cat(list(inferer(windows(image[0], inferer), (80, 80), network, task=0)))
        theirs = SlidingWindowInferer(32, 4, overlap=0.5, mode="gaussian")(image, lambda x: network(x).sigmoid())
    difference = (ours - theirs[0, 0]).abs()  # towards the edges MONAI rounds up weights that are next to nothing
    assert difference.mean() < 1e-3
    assert difference[8:-8, 8:-8].max() < 5e-3


def test_skipped_windows_are_free_of_lesion_and_are_not_run() -> None:
    seen: list[int] = []

    def network(patch: Tensor, task: Tensor) -> Tensor:
        seen.append(len(patch))
        return torch.full_like(patch[:, :1], 9.0)

    inferer = SlideInferer(32, overlap=0.0, sw_batch_size=2)
    left = [torch.zeros(3, 32, 32) if column == 0 else None for row in range(3) for column in range(2)]
    prob = torch.cat(list(inferer(left, (96, 64), network, task=0)))
    assert seen == [2, 1]
    assert prob[:, :32].min() > 0.99
    assert prob[:, 32:].max() == 0


def test_a_missing_window_is_an_error() -> None:
    inferer = SlideInferer(32)
    with pytest.raises(ValueError, match="Window 1 of 4"):
        list(inferer([torch.zeros(3, 32, 32)], (50, 50), pointwise, task=0))
    with pytest.raises(ValueError, match="overlap"):
        SlideInferer(32, overlap=1.0)
    with pytest.raises(ValueError, match="sw_batch_size"):
        SlideInferer(32, sw_batch_size=0)
