"""What a network sees of an ultrasound screen, and where its mask goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image
from pydicom.dataset import Dataset

from monai_tpseg.io import ReadError, find_read_error
from monai_tpseg.transforms import (
    CropToRegiond,
    LoadMedicalImage,
    LoadMedicalImaged,
    NormalizeByModalityd,
    PasteRegiond,
    SaveMaskd,
    crop_to_region,
    paste_region,
)
from tests.transforms.test_ultrasound import region

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]
INSIDE = (slice(2, 10), slice(3, 12))  # of `region`


def screen(write: Write, frames: int = 1, items: list[Dataset] | None = None) -> Path:
    """20 x 13 pixels, dark tissue inside the region and white letters around it."""
    pixels = np.full((frames, 20, 13), 255, dtype=np.uint8)
    pixels[(slice(None), *INSIDE)] = np.arange(72, dtype=np.uint8).reshape(8, 9)
    tags = {"NumberOfFrames": frames} if frames > 1 else {}
    sequence = [region()] if items is None else items
    return write("us", pixels if frames > 1 else pixels[0], "US", SequenceOfUltrasoundRegions=sequence, **tags)


@pytest.mark.parametrize("frames", [1, 3])
def test_crop_and_paste(write_dicom: Write, frames: int) -> None:
    case = LoadMedicalImaged("image")({"image": screen(write_dicom, frames)})
    part = CropToRegiond("image")(case)
    assert part["image"].shape[1:3] == (8, 9)
    assert part["image"].max() == 71  # no letter is left
    assert CropToRegiond("image")(part)["image"].shape == part["image"].shape  # once is enough
    part["pred"] = (part["image"][:1] > 30).as_tensor().float()
    whole = PasteRegiond("pred")(part)["pred"]
    assert whole.shape[1:] == case["image"].shape[1:]
    expected = (case["image"][:1] > 30).as_tensor() & (case["image"][:1] < 255).as_tensor()
    torch.testing.assert_close(whole.bool(), expected)
    assert paste_region(whole, case["image"].meta) is whole
    if frames > 1:  # one slice is pasted as the volume is
        assert torch.equal(paste_region(part["pred"][..., 1], case["image"].meta), whole[..., 1])


def test_letters_do_not_change_what_the_network_sees(write_dicom: Write, tmp_path: Path) -> None:
    steps = Compose([LoadMedicalImaged("image"), CropToRegiond("image"), NormalizeByModalityd()])
    seen = steps({"image": screen(write_dicom), "task": "breast_lesion"})["image"]
    tissue = np.arange(72, dtype=np.uint8).reshape(8, 9)
    alone = steps({"image": write_dicom("alone", tissue, "US"), "task": "breast_lesion"})["image"]
    torch.testing.assert_close(seen.as_tensor(), alone.as_tensor())


def test_the_mask_is_written_on_the_whole_frame(write_dicom: Write, tmp_path: Path) -> None:
    case = CropToRegiond("image")(LoadMedicalImaged("image")({"image": screen(write_dicom)}))
    case["pred"] = torch.ones(1, 8, 9)
    case["task"] = "breast_lesion"
    Compose([PasteRegiond("pred"), SaveMaskd("pred", tmp_path, save_overlay=False)])(case)
    with Image.open(tmp_path / "us_breast_lesion_mask.png") as picture:
        mask = np.asarray(picture)
    expected = np.zeros((20, 13), dtype=np.uint8)
    expected[INSIDE] = 255
    np.testing.assert_array_equal(mask, expected)


def test_labels_are_cropped_with_their_image_and_lose_nothing(write_dicom: Write, tmp_path: Path) -> None:
    path, label = screen(write_dicom), np.zeros((20, 13), dtype=np.uint8)
    label[4:7, 5:9] = 255
    steps = Compose([LoadMedicalImaged("image", "label"), CropToRegiond(["image", "label"])])
    Image.fromarray(label).save(tmp_path / "label.png")
    case = steps({"image": path, "label": tmp_path / "label.png"})
    np.testing.assert_array_equal(case["label"][0].numpy(), label[INSIDE] / 255)
    label[0, 0] = 255
    Image.fromarray(label).save(tmp_path / "label.png")
    with pytest.raises(RuntimeError) as caught:
        steps({"image": path, "label": tmp_path / "label.png"})
    error = find_read_error(caught.value)
    assert error is not None
    assert error.code == "E_SHAPE_MISMATCH"


def test_without_a_region_all_is_seen(write_dicom: Write, tmp_path: Path) -> None:
    Image.new("L", (13, 20)).save(tmp_path / "a.png")
    side_by_side = [region(RegionLocationMaxX1=6), region(RegionLocationMinX0=7)]
    for path in (tmp_path / "a.png", screen(write_dicom, items=side_by_side), screen(write_dicom, items=[])):
        image = LoadMedicalImage()(path)
        assert crop_to_region(image, image.meta).shape == (3, 20, 13)
        assert paste_region(torch.ones(1, 20, 13), image.meta).all()


def test_other_sizes_are_mistakes(write_dicom: Write) -> None:
    image = LoadMedicalImage()(screen(write_dicom))
    with pytest.raises(ValueError, match="before resizing"):
        crop_to_region(image[:, :15], image.meta)
    with pytest.raises(ValueError, match="neither"):
        paste_region(torch.ones(1, 20, 12), image.meta)


def test_a_cine_has_no_other_plane(write_dicom: Write) -> None:
    path = screen(write_dicom, 3)
    assert LoadMedicalImage(plane="stored")(path).shape == (3, 20, 13, 3)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage(plane="coronal")(path)
    assert caught.value.code == "E_GEOMETRY"
