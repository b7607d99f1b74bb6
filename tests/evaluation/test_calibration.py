"""The calibration error against torchmetrics, and what it is by hand."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from monai_tpseg.evaluation import calibration_bins, calibration_error
from monai_tpseg.evaluation.calibration import BINS


def test_error_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    prob = torch.rand(1, 50, 40, generator=generator)
    label = (torch.rand(1, 50, 40, generator=generator) < prob**2).float()
    expected = binary_calibration_error(prob, label.int(), n_bins=BINS, norm="l1")
    assert calibration_error(calibration_bins(prob, label)) == pytest.approx(float(expected), abs=1e-6)


def test_bins_of_images_add_up() -> None:
    generator = torch.Generator().manual_seed(1)
    prob, label = torch.rand(2, 900, generator=generator), torch.rand(2, 900, generator=generator).round()
    apart = calibration_bins(prob[0], label[0]) + calibration_bins(prob[1], label[1])
    assert calibration_error(apart) == pytest.approx(calibration_error(calibration_bins(prob, label)))


def test_what_is_said_and_what_is_true() -> None:
    prob = torch.tensor([0.8] * 10)
    assert calibration_error(calibration_bins(prob, torch.tensor([1.0] * 8 + [0.0] * 2))) == pytest.approx(0, abs=1e-6)
    assert calibration_error(calibration_bins(prob, torch.zeros(10))) == pytest.approx(0.8)
    assert calibration_error(calibration_bins(torch.ones(4), torch.ones(4))) == 0
    assert calibration_error(calibration_bins(torch.ones(0), torch.ones(0))) is None
    with pytest.raises(ValueError, match=r"\[0, 1\], got -2 to 0"):
        calibration_bins(torch.tensor([-2.0, 0.0]), torch.zeros(2))
