"""Contours keep their promise on cases that were not used to find them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_tpseg.trust.contours import STEPS, Curves, curves_of, meets_guarantee, minimum_cases, thresholds_of


def scene(rng: np.random.Generator, side: int = 40) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A disc, and probabilities of a network that shifts, swells or misses it."""
    rows, columns = np.mgrid[:side, :side]
    centre, radius = rng.uniform(12, 28, 2), rng.uniform(3, 9)
    label = (np.hypot(rows - centre[0], columns - centre[1]) < radius).astype(np.uint8)
    shift, swollen = rng.normal(0, 2, 2), radius * rng.uniform(0.6, 1.4)
    signed = swollen - np.hypot(rows - centre[0] - shift[0], columns - centre[1] - shift[1])
    logits = rng.uniform(0.4, 2.0) * signed + rng.normal(0, 0.5, (side, side))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), label


def test_curves_equal_masks_cut_one_by_one() -> None:
    prob, label = scene(np.random.default_rng(1))
    curves = curves_of(prob, label)
    assert curves.missed is not None
    worst = 0.0
    for k in range(STEPS + 1, -1, -1):
        mask = prob >= np.float32(k / STEPS)
        worst = max(worst, float((mask & (label == 0)).sum() / mask.sum()) if mask.any() else 0.0)
        assert curves.missed[k] == pytest.approx(1 - (mask & (label == 1)).sum() / label.sum())
        assert curves.false[k] == pytest.approx(worst)


def test_no_lesion_has_nothing_to_miss() -> None:
    prob, label = scene(np.random.default_rng(2))
    curves = curves_of(prob, np.zeros_like(label))
    assert curves.missed is None
    assert curves.false[0] == 1
    assert curves.false[-1] == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and label \(2, 3\)"):
        curves_of(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize(("share", "least"), [(0.1, 9), (0.05, 19), (0.2, 4)])
def test_least_cases(share: float, least: int) -> None:
    nothing = np.zeros((least, 1))
    assert minimum_cases(share) == least
    assert meets_guarantee(nothing, share)[0]
    assert not meets_guarantee(nothing[:-1], share)[0]


def test_too_few_cases_promise_all_pixels_and_none() -> None:
    curves = [curves_of(*scene(np.random.default_rng(n))) for n in range(8)]
    found = thresholds_of(curves, 0.1, 0.1)
    assert found.outer.value == 0
    assert found.inner.value > 1


@pytest.fixture(scope="module")
def many() -> list[Curves]:
    rng = np.random.default_rng(0)
    return [curves_of(*scene(rng)) for _ in range(100)]


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_risk_over_200_splits(many: list[Curves], share: float) -> None:
    """Half calibrates, half is judged: the mean risk over the splits is at most the promised one, within its error."""
    rng, missed, false = np.random.default_rng(3), [], []
    for _ in range(200):
        order = rng.permutation(len(many))
        first, second = ([many[i] for i in part] for part in np.array_split(order, 2))
        found = thresholds_of(first, share, share)
        outer, inner = (round(one.value * STEPS) for one in (found.outer, found.inner))
        missed.append(np.mean([one.missed[outer] for one in second if one.missed is not None]))
        false.append(np.mean([one.false[inner] for one in second]))
    for risks in (missed, false):
        error = np.sqrt(share * (1 - share) / len(many))  # of a mean over the cases that there are, at its largest
        assert np.mean(risks) <= share + 2 * error
        assert np.mean(risks) > share / 4  # a promise kept by taking all pixels or none would be idle
