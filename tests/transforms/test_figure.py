"""What a person may see of a case: the region of ultrasound alone, nothing that can be read where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.transforms import NormalizeByModalityd
from monai_tpseg.transforms.figure import draw_case

DISPLAY = NormalizeByModalityd(network=False)


def drawn(values: torch.Tensor, task: str = "thyroid_nodule", **meta: Any) -> np.ndarray[Any, np.dtype[Any]]:
    basic = {"source_format": "dicom", "source_kind": "picture", "intensity": "display", "dicom_modality": "US"}
    image = MetaTensor(values, meta=basic | meta)
    mask = torch.zeros(values.shape[1:])
    mask[60:90, 50:90] = 1
    return np.asarray(draw_case(image, mask, task, DISPLAY)).astype(int)


def frame(depth: tuple[int, ...] = ()) -> torch.Tensor:
    return torch.full((3, 120, 144, *depth), 90.0)


@pytest.mark.parametrize("depth", [(), (3,)])
def test_what_lies_outside_of_the_region_is_not_drawn(depth: tuple[int, ...]) -> None:
    plain, named = frame(depth), frame(depth)
    named[:, :20] = named[:, :, 130:] = 255  # where a scanner writes the name
    region = {"region": np.array([20, 4, 120, 130])}
    np.testing.assert_array_equal(drawn(plain, **region), drawn(named, **region))


@pytest.mark.parametrize("depth", [(), (3,)])
def test_without_a_region_nothing_can_be_read(depth: tuple[int, ...]) -> None:
    """Strokes of 3 pixels look like the grey of their mean, and the lesion is drawn as ever."""
    even, strokes = frame(depth), frame(depth)
    even[:, :18], strokes[:, :18] = 127.5, 0.0
    for n in (0, 1, 2):
        strokes[:, :18, n::6] = 255
    one, two = drawn(even), drawn(strokes)
    assert np.abs(one - two).max() < 10  # of 255 between black and white
    assert (one == (0, 255, 255)).all(axis=-1).any()
    assert (
        np.abs(
            drawn(even, "skin_lesion", dicom_modality="XC") - drawn(strokes, "skin_lesion", dicom_modality="XC")
        ).max()
        > 120
    )


def test_ultrasound_that_is_no_dicom_is_drawn_whole() -> None:
    plain, named = frame(), frame()
    named[:, :20, :20] = 255
    assert (drawn(plain, source_format="picture") != drawn(named, source_format="picture")).any()
