"""The simulated user, against a loop over single maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from monai_tpseg.clicks import next_clicks, scale_clicks


def blobs(batch: int, size: tuple[int, int], share: float) -> Tensor:
    """Random masks with regions of several pixels."""
    noise = torch.nn.functional.avg_pool2d(torch.rand(batch, 1, *size), 5, 1, 2, count_include_pad=False)
    return (noise > noise.flatten(1).quantile(1 - share, dim=1).view(-1, 1, 1, 1)).float()


def largest(mask: np.ndarray) -> np.ndarray:
    regions, number = ndimage.label(mask, structure=np.ones((3, 3)))
    return max((regions == i for i in range(1, number + 1)), key=np.sum, default=mask)


@pytest.mark.parametrize("size", [(24, 24), (17, 40), (40, 9)])
def test_a_click_lies_deep_in_the_largest_error_region_with_the_right_polarity(size: tuple[int, int]) -> None:
    label, pred = blobs(12, size, 0.4), blobs(12, size, 0.4)
    pred[0], label[1], pred[2], label[3] = 0, 0, 1, 1  # nothing found, nothing there, all found, all there
    clicks = next_clicks(pred, label)
    assert clicks.shape == (12, 1, 3)
    for b, (row, column, polarity) in enumerate(clicks[:, 0].tolist()):
        truth, marked = label[b, 0].bool().numpy(), pred[b, 0].bool().numpy()
        missed, wrong = largest(truth & ~marked), largest(marked & ~truth)
        assert polarity == (1 if missed.sum() >= wrong.sum() else -1)
        region = missed if polarity > 0 else wrong
        i, j = int(row), int(column)
        assert region[i, j]
        assert truth[i, j] == (polarity > 0)
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        assert depth[i, j] > depth.max() / 3
        inner = np.argwhere(depth > depth.max() / 3)
        centre = np.rint(inner.mean(0)).astype(int)
        if (inner == centre).all(1).any():
            assert (i, j) == tuple(centre)


def test_equal_samples_in_a_batch_do_not_disturb_each_other() -> None:
    label, pred = blobs(3, (20, 20), 0.3), blobs(3, (20, 20), 0.3)
    together = next_clicks(pred, label, torch.Generator().manual_seed(0))
    for b in range(3):
        alone = next_clicks(pred[b : b + 1], label[b : b + 1], torch.Generator().manual_seed(0))
        assert torch.equal(alone[0, 0, 2], together[b, 0, 2])


def test_a_ring_is_clicked_on_its_body_by_chance_and_by_seed() -> None:
    grid = torch.cartesian_prod(torch.arange(31), torch.arange(31)).float() - 15
    radius = grid.norm(dim=1).view(1, 1, 31, 31)
    label = ((radius < 14) & (radius > 8)).float()
    empty = torch.zeros_like(label)
    drawn = [next_clicks(empty, label, torch.Generator().manual_seed(seed))[0, 0] for seed in range(8)]
    assert all(label[0, 0, int(row), int(column)] and polarity == 1 for row, column, polarity in torch.stack(drawn))
    assert len({tuple(click.tolist()) for click in drawn}) > 1
    assert torch.equal(drawn[3], next_clicks(empty, label, torch.Generator().manual_seed(3))[0, 0])


def test_no_error_no_click() -> None:
    label = blobs(2, (16, 16), 0.3)
    assert not next_clicks(label, label).any()
    assert not next_clicks(torch.zeros_like(label), torch.zeros_like(label)).any()


def test_one_missed_pixel_is_clicked_exactly() -> None:
    label = torch.zeros(1, 1, 12, 20)
    label[0, 0, 7, 13] = 1
    assert next_clicks(torch.zeros_like(label), label).tolist() == [[[7.0, 13.0, 1.0]]]
    assert next_clicks(label, torch.zeros_like(label)).tolist() == [[[7.0, 13.0, -1.0]]]


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\), got \(1, 8, 8\)"):
        next_clicks(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


def test_clicks_move_with_a_resized_image() -> None:
    clicks = torch.tensor([[[0, 0, 1], [9, 19, -1.0]]])
    moved = scale_clicks(clicks, (10, 20), (20, 60))
    torch.testing.assert_close(moved, torch.tensor([[[0.5, 1.0, 1], [18.5, 58.0, -1.0]]]))
    torch.testing.assert_close(scale_clicks(moved, (20, 60), (10, 20)), clicks)
