"""Features of a map, the regression on them, and how often its interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from monai_tpseg.trust.features import FEATURES, map_features
from monai_tpseg.trust.quality import COVERAGE, fit_dice

Floats = NDArray[np.float64]


def named(prob: Floats) -> dict[str, float]:
    return dict(zip(FEATURES, map_features(prob).tolist(), strict=True))


def test_features_of_a_map_worked_out_by_hand() -> None:
    prob = np.zeros((10, 10))
    prob[0, :2], prob[5, 5], prob[9, 9] = 1.0, 0.6, 0.4
    found = named(prob)
    assert found["overlap"] == pytest.approx(2 * 2.6 / (3.0 + 3))
    assert found["inside"] == pytest.approx(2.6 / 3)
    assert found["outside"] == pytest.approx(0.4 / 3.0)
    assert found["margin"] == pytest.approx(2 * 2 / (4 + 2))
    assert found["entropy"] == pytest.approx(0.970951, abs=1e-5)  # of 0.6 and of 0.4
    assert found["area"] == pytest.approx(np.log(0.03))
    assert found["pieces"] == pytest.approx(np.log(3))
    assert found["largest"] == pytest.approx(2 / 3)
    assert found["peak"] == 1
    assert found["empty"] == 0


def test_an_empty_map_is_finite() -> None:
    assert np.isfinite(map_features(np.zeros((4, 4)))).all()
    assert named(np.zeros((4, 4)))["empty"] == 1


def cases(count: int, seed: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Dice that two of the features and the task tell, with noise that grows where it is low."""
    rng = np.random.default_rng(seed)
    features, rows = rng.normal(size=(count, len(FEATURES))), rng.integers(0, 3, count)
    clean = 0.65 + 0.12 * features[:, 0] - 0.05 * features[:, 3] ** 2 + 0.06 * rows
    return features, rows, np.clip(clean + rng.normal(0, 0.12 - 0.08 * np.clip(clean, 0, 1)), 0, 1)


def test_expected_dice_and_its_interval_on_fresh_cases() -> None:
    model = fit_dice(*cases(400, 0), tasks=3)
    features, rows, dice = cases(600, 1)
    found = [model.expect(one, int(row)) for one, row in zip(features, rows, strict=True)]
    value = np.array([one.value for one in found])
    assert np.abs(value - dice).mean() < 0.07
    assert spearmanr(value, dice)[0] > 0.8
    covered = np.mean([one.low <= true <= one.high for one, true in zip(found, dice, strict=True)])
    assert covered == pytest.approx(COVERAGE, abs=0.06)
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found)


def test_too_few_cases() -> None:
    with pytest.raises(ValueError, match="at least 20 cases with labels, got 12"):
        fit_dice(*cases(12, 0), tasks=3)
