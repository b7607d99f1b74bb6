"""Dice after clicks and numbers of clicks, against counting by hand."""

from __future__ import annotations

import pytest
import torch

from monai_tpseg.click_metrics import ClickScores, DiceAfterClicks, NumberOfClicks, clicks_needed


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Two cases of 10 pixels of lesion, found by more and more pixels."""
    label = torch.zeros(2, 1, 4, 5)
    label[:, :, :2] = 1
    found = [[0, 5, 9, 10], [0, 0, 5, 8]]
    pred = torch.zeros(2, 4, 20)
    for b, numbers in enumerate(found):
        for n, pixels in enumerate(numbers):
            pred[b, n, :pixels] = 1
    return pred.view(2, 4, 4, 5), label


def test_scores_of_each_click() -> None:
    pred, label = masks()
    dice, iou = ClickScores("dice"), ClickScores("iou")
    dice(pred, label)
    iou(list(pred), list(label))  # decollated
    expected = torch.tensor([[0, 0.5, 0.9, 1], [0, 0, 0.5, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(iou.scores(), expected)
    torch.testing.assert_close(dice.scores(), 2 * expected / (1 + expected))
    torch.testing.assert_close(iou.aggregate(), expected.mean(0))


def test_dice_after_clicks_and_number_of_clicks() -> None:
    pred, label = masks()
    after, noc90, noc50 = DiceAfterClicks((1, 3)), NumberOfClicks(0.9), NumberOfClicks(0.5)
    for metric in (after, noc90, noc50):
        metric(pred[:1], label[:1])
        metric(pred[1:], label[1:])
    torch.testing.assert_close(after.aggregate(), torch.tensor([1 / 3, (1 + 1.6 / 1.8) / 2], dtype=torch.float64))
    assert noc90.aggregate() == (2 + 3) / 2  # the second is never good enough: all clicks count
    assert noc50.aggregate() == (1 + 2) / 2
    noc90.reset()
    with pytest.raises(ValueError, match="No case was measured"):
        noc90.aggregate()


def test_a_good_start_needs_no_click() -> None:
    assert clicks_needed(torch.tensor([[0.95, 0.2, 0.99], [0.1, 0.2, 0.3]]), 0.9).tolist() == [0, 2]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="Unknown measure 'f1'"):
        ClickScores("f1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\], got 90"):
        NumberOfClicks(90)
    with pytest.raises(ValueError, match=r"labels \(B, 1, H, W\)"):
        ClickScores()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
