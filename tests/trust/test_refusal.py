"""Pictures of the task pass as often as promised, others are told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_tpseg.trust.refusal import Refusal, fit_refusal

Floats = NDArray[np.float64]
WIDTH = 24


@pytest.fixture(scope="module")
def centres() -> Floats:
    return np.random.default_rng(0).normal(0, 2, (4, WIDTH))


def draw(centres: Floats, row: int, count: int, seed: int) -> Floats:
    return centres[row] + np.random.default_rng(seed).normal(0, 1, (count, WIDTH))


@pytest.fixture(scope="module")
def refusal(centres: Floats) -> Refusal:
    """Tasks 0 and 1 with pictures of the other as negatives, task 2 with none, task 3 with too few pictures."""
    own = [draw(centres, row, count, row) for row, count in enumerate((120, 120, 120, 5))]
    others = [draw(centres, 1 - row, 40, 10 + row) for row in (0, 1)]
    asked = np.repeat([0, 1, 2, 3, 0, 1], [120, 120, 120, 5, 40, 40])
    return fit_refusal(np.concatenate([*own, *others]), asked, np.arange(len(asked)) < 365, 4)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_own_pictures_pass_as_promised(refusal: Refusal, centres: Floats, row: int) -> None:
    fresh = draw(centres, row, 2000, 100 + row)
    share = float((refusal.scores(fresh, row) > refusal.limit(row)).mean())
    assert 0.01 <= share <= 0.12  # 5 % of 120 pictures are known to 2 points


@pytest.mark.parametrize(("row", "other"), [(0, 1), (1, 0), (2, 0), (0, 3)])
def test_others_are_told(refusal: Refusal, centres: Floats, row: int, other: int) -> None:
    assert (refusal.scores(draw(centres, other, 200, 7), row) > refusal.limit(row)).mean() > 0.9


def test_noise_is_told(refusal: Refusal) -> None:
    noise = np.random.default_rng(5).normal(0, 8, (100, WIDTH))
    assert (refusal.scores(noise, 2) > refusal.limit(2)).all()


def test_few_pictures_give_no_limit(refusal: Refusal) -> None:
    assert [refusal.knows(row) for row in range(5)] == [True, True, True, False, False]


def test_pictures_that_training_did_not_see_set_the_limits(centres: Floats) -> None:
    """Training pictures come in near copies, as frames of a video do: beside them every new picture looks far off."""
    scenes = np.concatenate([draw(centres, row, 30, row) for row in (0, 1)])
    noise = np.random.default_rng(3).normal(0, 0.05, (4, *scenes.shape))
    seen = (scenes + noise).reshape(-1, WIDTH)
    rows = np.tile(np.repeat([0, 1], 30), 4)
    tight = fit_refusal(seen, rows, np.ones(len(rows), bool), 3)
    fresh, judged = (np.concatenate([draw(centres, row, 200, seed + row) for row in (0, 1)]) for seed in (50, 60))
    asked = np.repeat([0, 1], 200)
    wide = tight.with_limits(fresh, asked)
    for row in (0, 1):
        scores = wide.scores(judged[asked == row], row)
        assert (scores > tight.limit(row)).mean() > 0.5
        assert 0.01 <= (scores > wide.limit(row)).mean() <= 0.1  # 5 %, known to 2 points
    assert np.isnan(wide.limits[2])
