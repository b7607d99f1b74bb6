"""Small lesions go, large ones stay as they are."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.transforms import RemoveSmallLesionsd


def mask_2d() -> torch.Tensor:
    mask = torch.zeros(1, 8, 8)
    mask[0, 0, 0] = 1  # 1 pixel
    mask[0, 2, 2] = mask[0, 3, 3] = 1  # 2 pixels that touch at a corner
    mask[0, 5:8, 5:8] = 1  # 9 pixels
    return mask


@pytest.mark.parametrize(("min_area", "left"), [(0, 12), (1, 12), (2, 11), (3, 9), (9, 9), (10, 0)])
def test_lesions_below_the_size_are_removed(min_area: int, left: int) -> None:
    mask = mask_2d()
    cleaned = RemoveSmallLesionsd("pred", min_area)({"pred": mask})["pred"]
    assert cleaned.sum() == left
    assert ((cleaned == mask) | (cleaned == 0)).all()
    assert mask.sum() == 12


def test_volumes_count_voxels_across_slices() -> None:
    mask = torch.zeros(1, 4, 4, 4)
    mask[0, 1, 1, :] = 1
    mask[0, 3, 3, 3] = 1
    cleaned = RemoveSmallLesionsd("pred", 4)({"pred": mask})["pred"]
    assert cleaned.sum() == 4


def test_meta_and_dtype_stay() -> None:
    mask = MetaTensor(mask_2d().to(torch.uint8), meta={"filename_or_obj": "a.png"})
    cleaned = RemoveSmallLesionsd("pred", 3)({"pred": mask})["pred"]
    assert cleaned.dtype == torch.uint8
    assert cleaned.meta["filename_or_obj"] == "a.png"


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="got -1"):
        RemoveSmallLesionsd("pred", -1)
