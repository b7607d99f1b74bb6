"""Labels: the masks people save, and the ones that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage, LoadMedicalImaged

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("scale", [1, 255, 200])
def test_masks_of_any_white_become_binary(tmp_path: Path, letter: Array, scale: int) -> None:
    Image.fromarray(letter * np.uint8(scale)).save(tmp_path / "a.png")
    label = LoadMedicalImage("label")(tmp_path / "a.png")
    assert label.shape == (1, 20, 13)
    np.testing.assert_array_equal(label[0].numpy(), letter)


def test_jpeg_noise_rgb_16_bits_1_bit_and_palette_give_the_same_mask(tmp_path: Path, letter: Array) -> None:
    large = letter.repeat(8, axis=0).repeat(8, axis=1)
    grey = Image.fromarray(large * np.uint8(255))
    grey.save(tmp_path / "noise.jpg", quality=85)
    grey.convert("RGB").save(tmp_path / "rgb.png")
    grey.convert("1").save(tmp_path / "bit.png")
    Image.fromarray(large.astype(np.uint16) * 65535).save(tmp_path / "wide.png")
    Image.fromarray(large.astype(np.uint16)).save(tmp_path / "wide_ones.png")
    red = Image.fromarray(large, "P")
    red.putpalette([0, 0, 0, 128, 0, 0])
    red.save(tmp_path / "palette.png")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    for file in files:
        np.testing.assert_array_equal(LoadMedicalImage("label")(file)[0].numpy(), large, err_msg=file.name)


def test_empty_and_full_masks(tmp_path: Path) -> None:
    for value, expected in ((0, 0), (1, 1), (255, 1)):
        Image.fromarray(np.full((4, 5), value, dtype=np.uint8)).save(tmp_path / f"{value}.png")
        assert (LoadMedicalImage("label")(tmp_path / f"{value}.png") == expected).all()


def test_classes_and_colours_are_refused_by_name(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter * np.uint8(2)).save(tmp_path / "classes.png")
    with pytest.raises(ReadError, match="values 0, 2;") as caught:
        LoadMedicalImage("label")(tmp_path / "classes.png")
    assert caught.value.code == "E_LABEL_VALUES"
    Image.fromarray(np.stack([letter * 255, letter * 0, letter * 0], axis=-1)).save(tmp_path / "red.png")
    with pytest.raises(ReadError, match="is in colour"):
        LoadMedicalImage("label")(tmp_path / "red.png")


def test_size_mismatch_names_both(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter).save(tmp_path / "image.png")
    Image.fromarray(letter.T.copy()).save(tmp_path / "label.png")
    with pytest.raises(ReadError, match=r"13 x 20 and 20 x 13") as caught:
        LoadMedicalImaged("image", "label")({"image": tmp_path / "image.png", "label": tmp_path / "label.png"})
    assert caught.value.code == "E_SHAPE_MISMATCH"


def test_volume_label_in_other_axes_lands_on_its_image(tmp_path: Path, letter_volume: Array) -> None:
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(letter_volume.astype(np.int16) * 7, affine), tmp_path / "image.nii.gz")
    turned = nib.Nifti1Image(letter_volume * np.uint8(3), affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    assert turned.shape != letter_volume.shape
    nib.save(turned, tmp_path / "label.nii.gz")
    case = LoadMedicalImaged("image", "label")({"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"})
    np.testing.assert_array_equal(case["label"][0].numpy(), case["image"][0].numpy() / 7)
    np.testing.assert_allclose(case["label"].affine, case["image"].affine)


def test_volume_label_elsewhere_in_space_is_refused(tmp_path: Path, letter_volume: Array) -> None:
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(letter_volume, affine), tmp_path / "image.nii.gz")
    moved = affine.copy()
    moved[2, 3] = 6.0
    nib.save(nib.Nifti1Image(letter_volume, moved), tmp_path / "label.nii.gz")
    with pytest.raises(ReadError, match=r"2\.0 voxels apart") as caught:
        LoadMedicalImaged("image", "label")({"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"})
    assert caught.value.code == "E_GEOMETRY"


def test_missing_label_is_an_error_unless_allowed(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter).save(tmp_path / "image.png")
    with pytest.raises(KeyError, match="has no 'label'"):
        LoadMedicalImaged("image", "label")({"image": tmp_path / "image.png"})
    case = LoadMedicalImaged("image", "label", allow_missing_keys=True)({"image": tmp_path / "image.png"})
    assert list(case) == ["image"]
