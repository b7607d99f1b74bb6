"""NaN and constant surrounds stay out of percentiles and are black for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_tpseg.io.no_data import surround_mask
from monai_tpseg.transforms import LoadMedicalImage, NormalizeByModalityd

Array = np.ndarray[Any, np.dtype[Any]]
TISSUE = np.random.default_rng(0).gamma(4, 100, (40, 48, 6)).astype(np.float32)


def seen(path: Path, values: Array, task: str) -> Array:
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
    image = LoadMedicalImage(plane="stored")(path)
    shown: Array = NormalizeByModalityd(network=False)({"image": image, "task": task})["image"][0].numpy()
    return shown.transpose(1, 0, 2)


def framed(value: float) -> Array:
    whole = np.full((60, 64, 6), value, dtype=np.float32)
    whole[10:50, 8:56] = TISSUE
    return whole


@pytest.mark.parametrize("task", ["brain_tumor", "wet_amd"])
@pytest.mark.parametrize("value", [np.nan, 0.0, -32768.0, 65535.0, 1e4])
def test_what_surrounds_the_tissue_does_not_change_it(tmp_path: Path, task: str, value: float) -> None:
    expected = seen(tmp_path / "a.nii", TISSUE, task)
    found = seen(tmp_path / "b.nii", framed(value), task)
    np.testing.assert_allclose(found[10:50, 8:56], expected, atol=2e-3)
    found[10:50, 8:56] = 0
    assert (found == 0).all()


def test_a_strip_on_one_side(tmp_path: Path) -> None:
    values = TISSUE.copy()
    values[:12] = 9999
    expected = seen(tmp_path / "a.nii", TISSUE[12:], "brain_tumor")
    np.testing.assert_allclose(seen(tmp_path / "b.nii", values, "brain_tumor")[12:], expected, atol=2e-3)


def test_hu_around_ct(tmp_path: Path) -> None:
    hu = (TISSUE - 900).clip(-890, 300)
    for value, black in ((-1000.0, 350 / 1500), (-600.0, 0.5), (-3024.0, 0), (0.0, 0), (3000.0, 0)):
        whole = np.full((60, 64, 6), value, dtype=np.float32)
        whole[10:50, 8:56] = hu
        found = seen(tmp_path / "a.nii", whole, "lung_infection")
        np.testing.assert_allclose(found[10:50, 8:56], ((hu + 1350) / 1500).clip(0, 1), atol=1e-5)
        np.testing.assert_allclose(found[0], black, atol=1e-5)


def test_what_is_no_surround() -> None:
    assert surround_mask(TISSUE) is None
    assert surround_mask(np.zeros((20, 20))) is None
    inside = TISSUE.copy()
    inside[10:20, 10:20] = 0
    assert surround_mask(inside) is None


def test_a_drawing_of_two_values_has_no_surround(tmp_path: Path) -> None:
    whole = np.zeros((40, 40, 3), dtype=np.float32)
    whole[10:30, 10:30] = 800
    np.testing.assert_array_equal(seen(tmp_path / "a.nii", whole, "brain_tumor"), whole / 800)
