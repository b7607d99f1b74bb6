"""Probabilities become a mask: pasted, cut at the threshold, without what is small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.io import meta_keys
from monai_tpseg.segment import Finish


def meta_of(shape: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {meta_keys.LOADED_SHAPE: np.array(shape), **more}


def test_the_threshold_itself_is_lesion() -> None:
    prob = torch.tensor([[[0.4, 0.39], [0.0, 0.41]]])
    found = Finish(0.4)(prob, meta_of((2, 2)))
    assert found.mask.tolist() == [[[1, 0], [0, 1]]]
    assert found.mask.dtype == torch.float32
    assert found.lesions.tolist() == [[1, 0], [0, 1]]
    assert torch.equal(found.prob, prob)


def test_what_is_small_goes_and_the_others_are_numbered_by_size() -> None:
    prob = torch.zeros(1, 6, 8)
    prob[0, 0, 0] = prob[0, 2:4, 2] = 0.9
    prob[0, 3:, 5:] = 0.8
    found = Finish(0.5, 2)(prob, meta_of((6, 8)))
    assert found.mask[0, 0, 0] == 0
    assert set(np.unique(found.lesions)) == {0, 1, 2}
    assert (found.lesions[3:, 5:] == 1).all()
    assert (found.lesions[2:4, 2] == 2).all()
    assert torch.equal(found.mask[0] > 0, torch.from_numpy(found.lesions > 0))
    assert found.prob[0, 0, 0] == pytest.approx(0.9)  # probabilities stay as they are


def test_a_lesion_of_an_irregular_series_ends_with_its_slice() -> None:
    prob = torch.zeros(1, 4, 4, 3)
    prob[0, 1, 1, :] = 0.9  # three voxels, one in each slice
    prob[0, 2:, 2:, 2] = 0.9
    whole = Finish(0.5, 3)(prob, meta_of((4, 4, 3)))
    apart = Finish(0.5, 3)(prob, meta_of((4, 4, 3), **{meta_keys.IRREGULAR: "gap"}))
    assert int(whole.mask.sum()) == 7
    assert apart.mask.nonzero().tolist() == [[0, 1, 1, 2], [0, 2, 2, 2], [0, 2, 3, 2], [0, 3, 2, 2], [0, 3, 3, 2]]


def test_what_was_found_in_a_region_lies_in_it() -> None:
    prob = torch.full((1, 2, 3, 2), 0.7)
    found = Finish()(prob, meta_of((5, 6, 2), **{meta_keys.REGION: (1, 2, 3, 5)}))
    assert found.mask.shape == (1, 5, 6, 2)
    assert found.mask[0, 1:3, 2:5].all()
    assert found.mask.sum() == found.prob.gt(0).sum() == 12


def test_meta_and_precision_of_a_batch_stay() -> None:
    prob = MetaTensor(torch.rand(1, 4, 4).half(), meta={"filename_or_obj": "a.png"})
    found = Finish()(prob, meta_of((4, 4)))
    assert isinstance(found.mask, MetaTensor)
    assert found.mask.meta["filename_or_obj"] == "a.png"
    assert found.prob.dtype == torch.float16


@pytest.mark.parametrize(
    ("threshold", "smallest", "words"),
    [(0.0, 0, "threshold must lie between 0 and 1, got 0.0"), (0.5, -1, "min_lesion_area must be 0 or more")],
)
def test_ranges(threshold: float, smallest: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Finish(threshold, smallest)


@pytest.mark.parametrize(
    ("value", "words"), [(float("nan"), "from nan to nan"), (4.0, "from 4 to 4"), (-3.0, "logits need a sigmoid")]
)
def test_what_is_no_probability_gives_no_mask(value: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Finish()(torch.full((1, 4, 4), value), meta_of((4, 4)))
