"""Lesions found, against MONAI's panoptic counts and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from scipy import ndimage

from monai_tpseg.evaluation import LesionCounts, match_lesions
from monai_tpseg.evaluation.lesion_wise import overlaps
from monai_tpseg.lesions import label_lesions


@pytest.mark.parametrize("shape", [(60, 60), (24, 24, 12)])
def test_counts_are_those_of_monai(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(8):
        truth = ndimage.gaussian_filter(generator.normal(size=shape), 1.6)
        noisy = truth + ndimage.gaussian_filter(generator.normal(size=shape), 1.6)
        label, pred = (label_lesions(field > 1.2 * field.std()) for field in (truth, noisy))
        for least in (0.1, 0.3, 0.5):
            expected = compute_panoptic_quality(
                torch.from_numpy(pred), torch.from_numpy(label), match_iou_threshold=least, output_confusion_matrix=True
            )
            assert match_lesions(pred, label, least) == tuple(int(count) for count in expected[:3])


def test_one_prediction_over_two_lesions_finds_one() -> None:
    label = np.zeros((10, 20), int)
    label[2:8, 2:8], label[2:8, 12:18] = 1, 2
    pred = np.zeros((10, 20), int)
    pred[2:8, 2:18] = 1  # 96 pixels over both, IoU 36 / 96 with each
    assert match_lesions(pred, label, 0.1) == LesionCounts(1, 0, 1)
    assert match_lesions(pred, label, 0.5) == LesionCounts(0, 1, 2)
    assert overlaps(pred, label).tolist() == [[104, 24], [0, 36], [0, 36]]


def test_the_least_iou_must_be_passed() -> None:
    label = np.array([[1, 1, 0, 0]])
    assert match_lesions(np.array([[1, 0, 0, 0]]), label, 0.5) == (0, 1, 1)  # IoU is 0.5 and not above
    assert match_lesions(np.array([[1, 0, 0, 0]]), label, 0.49) == (1, 0, 0)


def test_empty_images() -> None:
    none, two = np.zeros((4, 4), int), np.array([[1, 0, 2, 0]] * 4)
    assert match_lesions(none, none, 0.1) == (0, 0, 0)
    assert match_lesions(two, none, 0.1) == (0, 2, 0)
    assert match_lesions(none, two, 0.1) == (0, 0, 2)
    with pytest.raises(ValueError, match="same shape"):
        match_lesions(none, two[:2], 0.1)
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 0"):
        match_lesions(none, two, 0)
