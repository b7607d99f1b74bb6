"""Masks come back onto the source: same size, same affine, same voxels; files are whole and never collide."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from PIL import Image, ImageOps

from monai_tpseg.io import list_cases
from monai_tpseg.transforms import (
    LoadMedicalImage,
    LoadMedicalImaged,
    MaskWriter,
    NormalizeByModalityd,
    SaveMaskd,
    TaskToIndexd,
)

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


def found_by_value(image: MetaTensor) -> torch.Tensor:
    """A mask that depends on the voxels alone: what a network would find."""
    return (image[:1] > 100).float()


def write(source: Path, output: Path, task: str = "lung_infection", **options: Any) -> dict[str, Path]:
    image = LoadMedicalImage()(source)
    mask = found_by_value(image)
    return MaskWriter(output, **options).write(mask, mask * 0.75, image.meta, task)


@pytest.mark.parametrize(
    "name", ["grey.png", "rgb.png", "rgba.png", "palette.png", "wide.png", "a.jpg", "a.tif", "a.bmp"]
)
def test_pictures_get_a_mask_of_their_size(tmp_path: Path, letter: Array, name: str) -> None:
    large = letter.repeat(3, axis=0).repeat(3, axis=1)
    picture = Image.fromarray(large * np.uint8(255))
    if name == "palette.png":
        picture = Image.fromarray(large, "P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
    elif name == "wide.png":
        picture = Image.fromarray(large.astype(np.uint16) * 65535)
    elif name.startswith("rgb"):
        picture = picture.convert(name.split(".")[0].upper())
    picture.save(tmp_path / name)
    written = write(tmp_path / name, tmp_path / "out", "skin_lesion", save_probabilities=True)
    assert written["mask"].name == f"{Path(name).stem}_skin_lesion_mask.png"
    with (
        Image.open(written["mask"]) as mask,
        Image.open(written["prob"]) as prob,
        Image.open(tmp_path / name) as source,
    ):
        assert mask.mode == "L"
        assert mask.size == source.size == (39, 60)
        np.testing.assert_array_equal(np.asarray(mask), large * 255)
        np.testing.assert_array_equal(np.asarray(prob), large * np.uint16(round(0.75 * 65535)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs_get_a_mask_as_displayed(tmp_path: Path, letter: Array, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(letter * np.uint8(255)).save(tmp_path / "a.png", exif=exif)
    written = write(tmp_path / "a.png", tmp_path / "out", "skin_lesion")
    with Image.open(tmp_path / "a.png") as source, Image.open(written["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(ImageOps.exif_transpose(source)))


def geometry(path: Path) -> tuple[Array, ...]:
    image = sitk.ReadImage(str(path))
    return tuple(np.asarray(x) for x in (image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()))


def oblique() -> Array:
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    axes: Array = turn @ tip @ np.diag([0.7, 0.9, 3.3])
    return axes


@pytest.mark.parametrize(
    ("axes", "codes"),
    [
        (np.diag([1.0, 1.0, 1.0]), (1, 1)),
        (np.diag([-1.0, -1.0, 2.0]), (2, 0)),
        (np.diag([-0.7, 0.9, 3.3]), (0, 1)),
        (np.array([[0, 0, 4.0], [1.0, 0, 0], [0, -1.2, 0]]), (1, 2)),
        (oblique(), (1, 1)),
        (oblique()[:, [1, 0, 2]], (2, 2)),
        (np.diag([2.0, 2.0, 2.0]), (0, 0)),
    ],
    ids=["RAS", "LPS", "LAS", "sagittal", "oblique", "oblique-left-handed", "no-codes"],
)
def test_nifti_masks_lie_on_the_source_grid(
    tmp_path: Path, letter_volume: Array, axes: Array, codes: tuple[int, int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, [-11.0, 22.5, 7.0]
    source = nib.Nifti1Image(letter_volume.astype(np.int16) * 1000, affine)
    source.set_sform(affine, code=codes[0])
    source.set_qform(affine, code=codes[1])
    source.header["descrip"] = b"Jane Doe"
    source.header.set_xyzt_units("mm", "sec")
    nib.save(source, tmp_path / "a.nii.gz")
    written = write(tmp_path / "a.nii.gz", tmp_path / "out", save_probabilities=True)
    assert written["mask"].name == "a_lung_infection_mask.nii.gz"
    before, after = nib.load(tmp_path / "a.nii.gz"), nib.load(written["mask"])
    np.testing.assert_array_equal(after.dataobj, letter_volume)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.get_data_dtype() == np.uint8
    for field in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "quatern_b"):
        np.testing.assert_array_equal(after.header[field], before.header[field])
    assert b"Jane" not in after.header.binaryblock
    for ours, theirs in zip(geometry(written["mask"]), geometry(tmp_path / "a.nii.gz"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    prob = nib.load(written["prob"])
    assert prob.get_data_dtype() == np.float32
    np.testing.assert_array_equal(prob.dataobj, letter_volume * np.float32(0.75))


@pytest.mark.parametrize("shape", [(20, 13), (20, 13, 1), (20, 13, 1, 1), (20, 13, 7, 1)])
def test_niftis_of_any_dimension_keep_their_shape(tmp_path: Path, letter_volume: Array, shape: tuple[int, ...]) -> None:
    values = letter_volume[:, :, : shape[2] if len(shape) > 2 else 1].reshape(shape).astype(np.float32) * 500
    nib.save(nib.Nifti1Image(values, np.diag([1, 2, 3, 1])), tmp_path / "a.nii")
    written = write(tmp_path / "a.nii", tmp_path / "out")
    assert nib.load(written["mask"]).shape == shape
    np.testing.assert_array_equal(nib.load(written["mask"]).dataobj, values > 0)


def test_nifti2_and_big_endian_sources(tmp_path: Path, letter_volume: Array) -> None:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti2Image(letter_volume.astype(np.int16) * 500, affine), tmp_path / "two.nii")
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image((letter_volume * 500.0).astype(">i2"), affine, header), tmp_path / "big.nii")
    for name in ("two.nii", "big.nii"):
        mask = nib.load(write(tmp_path / name, tmp_path / "out", save_overlay=False)["mask"])
        np.testing.assert_array_equal(mask.dataobj, letter_volume)
        np.testing.assert_array_equal(mask.affine, nib.load(tmp_path / name).affine)


def test_nrrd_masks_lie_on_the_source_grid(tmp_path: Path, letter_volume: Array) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(letter_volume.T).astype(np.int16) * 900)
    image.SetSpacing((0.7, 0.9, 3.3))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((oblique() / [0.7, 0.9, 3.3]).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    written = write(tmp_path / "a.nrrd", tmp_path / "out")
    for ours, theirs in zip(geometry(written["mask"]), geometry(tmp_path / "a.nrrd"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(written["mask"]))), letter_volume.T)


def test_series_masks_lie_on_the_grid_that_itk_reads(tmp_path: Path, write_series: Write, letter_volume: Array) -> None:
    hu = letter_volume.transpose(2, 0, 1) * 400.0
    for n, (rows, columns) in enumerate(
        (((0, 1, 0), (1, 0, 0)), ((0, 0, -1), (0, 1, 0)), ((0.6, 0.8, 0), (0.8, -0.6, 0)))
    ):
        folder = write_series(hu, rows, columns, name=f"series.{n}")
        written = write(folder, tmp_path / "out")
        assert written["mask"].name == f"series.{n}_lung_infection_mask.nii.gz"
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        source, mask = reader.Execute(), sitk.ReadImage(str(written["mask"]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(source) > 100)
        for name in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_allclose(getattr(mask, name)(), getattr(source, name)(), atol=1e-4)


def test_dicom_pictures_get_a_png(tmp_path: Path, write_dicom: Write, letter: Array) -> None:
    written = write(write_dicom("IM1.dcm", letter * np.uint8(255), "US"), tmp_path / "out", "thyroid_nodule")
    assert written["mask"].name == "IM1_thyroid_nodule_mask.png"
    with Image.open(written["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask), letter * 255)


@pytest.mark.parametrize("kind", ["picture", "volume"])
def test_a_whole_chain_returns_to_the_source(tmp_path: Path, letter: Array, kind: str) -> None:
    """Resize, batch, decollate, invert, save: as a bundle does."""
    large = letter.repeat(8, axis=0).repeat(8, axis=1)
    if kind == "picture":
        source, task, size = tmp_path / "a.png", "colon_polyp", (80, 52)
        Image.fromarray(large * np.uint8(255)).save(source)
    else:
        source, task, size = tmp_path / "a.nii.gz", "brain_tumor", (52, 80, -1)
        affine = np.diag([-1.0, 1.0, 4.0, 1.0])
        nib.save(nib.Nifti1Image(np.stack([large * 0, large, large], axis=-1).astype(np.int16) * 800, affine), source)
    before = mt.Compose(
        [LoadMedicalImaged(), NormalizeByModalityd(), TaskToIndexd(), mt.Resized("image", size, mode="nearest")]
    )
    after = mt.Compose(
        [
            mt.Invertd("pred", before, orig_keys="image", nearest_interp=True),
            mt.AsDiscreted("pred", threshold=0.5),
            SaveMaskd("pred", tmp_path / "out"),
        ]
    )
    (case,) = decollate_batch(list_data_collate([before({"image": source, "task": task})]))
    case["pred"] = (case["image"][:1] > 0).float()
    after(case)
    if kind == "picture":
        with Image.open(tmp_path / "out" / "a_colon_polyp_mask.png") as mask:
            found, expected = np.asarray(mask) > 0, large > 0
    else:
        written = nib.load(tmp_path / "out" / "a_brain_tumor_mask.nii.gz")
        np.testing.assert_array_equal(written.affine, nib.load(source).affine)
        found, expected = np.asarray(written.dataobj) > 0, nib.load(source).get_fdata() > 0
    np.testing.assert_array_equal(found, expected)  # halved and doubled by nearest neighbours: nothing is lost


def test_masks_off_the_grid_are_refused(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter).save(tmp_path / "a.png")
    image = LoadMedicalImage()(tmp_path / "a.png")
    writer = MaskWriter(tmp_path / "out", save_overlay=False)
    with pytest.raises(ValueError, match=r"not on the source grid: shapes differ .*invert the resizing"):
        writer.write(torch.zeros(1, 64, 64), None, image.meta, "skin_lesion")
    half = mt.Resize((10, 13), mode="nearest")(image[:1])
    with pytest.raises(ValueError, match="not on the source grid"):
        writer.write(half, None, half.meta, "skin_lesion")
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        writer.write(torch.full((1, 20, 13), 0.5), None, image.meta, "skin_lesion")
    with pytest.raises(ValueError, match="No probabilities"):
        MaskWriter(tmp_path / "out", save_probabilities=True).write(image[:1] * 0, None, image.meta, "skin_lesion")
    assert not (tmp_path / "out").exists()


def test_a_flip_that_was_not_inverted_is_undone(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter * np.uint8(255)).save(tmp_path / "a.png")
    flipped = mt.Flip(spatial_axis=1)(LoadMedicalImage()(tmp_path / "a.png"))
    mask = found_by_value(flipped)
    assert isinstance(mask, MetaTensor)
    written = MaskWriter(tmp_path / "out").write(mask, None, flipped.meta, "skin_lesion")
    with Image.open(written["mask"]) as found:
        np.testing.assert_array_equal(np.asarray(found), letter * 255)


def test_sources_of_one_name_never_meet(tmp_path: Path, letter: Array) -> None:
    names = ["a.png", "a.jpg", "x/a.png", "y/a.png", "y/b.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(letter).save(tmp_path / "in" / name)
    below = MaskWriter(tmp_path / "below", data_root_dir=tmp_path / "in", save_overlay=False)
    flat = MaskWriter(tmp_path / "flat", save_overlay=False)
    for case in list_cases(tmp_path / "in"):
        image = LoadMedicalImage()(case)
        for writer in (below, flat, flat):
            writer.write(found_by_value(image), None, image.meta, "skin_lesion")
    found = sorted(str(path.relative_to(tmp_path / "below")) for path in (tmp_path / "below").rglob("*.png"))
    kept = ["a_jpg_skin_lesion", "a_png_skin_lesion", "x/a_skin_lesion", "y/a_skin_lesion", "y/b_skin_lesion"]
    assert found == [f"{name}_mask.png" for name in kept]
    assert len(list((tmp_path / "flat").iterdir())) == len(names)


def test_a_case_name_is_used_and_kept_inside(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter).save(tmp_path / "secret.png")
    image = LoadMedicalImage()(tmp_path / "secret.png")
    writer = MaskWriter(tmp_path / "out", save_overlay=False)
    written = writer.write(image[:1] * 0, None, image.meta, "skin_lesion", case_name="study/c7")
    assert written == {"mask": tmp_path / "out" / "study" / "c7_skin_lesion_mask.png"}
    for name, task in (("../c7", "skin_lesion"), ("/c7", "skin_lesion"), ("c7", "../skin")):
        with pytest.raises(ValueError, match="leads outside the output folder"):
            writer.write(image[:1] * 0, None, image.meta, task, case_name=name)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, letter: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(letter).save(tmp_path / "a.png")
    image = LoadMedicalImage()(tmp_path / "a.png")
    writer = MaskWriter(tmp_path / "out", save_overlay=False)
    first = writer.write(image[:1] * 0 + 1, None, image.meta, "skin_lesion")["mask"]
    digest = hashlib.sha256(first.read_bytes()).hexdigest()

    def fail(self: Image.Image, file: Path, format: str) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        writer.write(image[:1] * 0, None, image.meta, "skin_lesion")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [first.name]
    assert hashlib.sha256(first.read_bytes()).hexdigest() == digest


def test_the_same_case_gives_the_same_bytes(tmp_path: Path, letter_volume: Array) -> None:
    nib.save(nib.Nifti1Image(letter_volume.astype(np.int16) * 400, np.eye(4)), tmp_path / "a.nii.gz")
    one, two = (write(tmp_path / "a.nii.gz", tmp_path / name) for name in ("one", "two"))
    assert sorted(one) == ["mask", "overlay"]
    for kind in one:
        assert one[kind].read_bytes() == two[kind].read_bytes()


def test_overlay_of_a_volume_shows_the_lesion_on_the_windowed_slices(tmp_path: Path, letter_volume: Array) -> None:
    hu = letter_volume.astype(np.int16) * 1000 - 600
    nib.save(nib.Nifti1Image(hu, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "a.nii.gz")
    with Image.open(write(tmp_path / "a.nii.gz", tmp_path / "out")["overlay"]) as overlay:
        assert overlay.size == (4 * 320, 2 * 208 + 24)  # 7 slices of 13 rows and 20 columns
        pixels = np.asarray(overlay).astype(int)
    cyan = (pixels == (0, 255, 255)).all(axis=-1)
    tiles = cyan[24:].reshape(2, 208, 4, 320).transpose(0, 2, 1, 3).reshape(8, -1).any(axis=1)
    assert tiles.tolist() == [*letter_volume.any(axis=(0, 1)).tolist(), False]
    assert (pixels[24 + 200, 310] == 128).all()  # -600 HU is the middle of the lung window


def test_save_needs_the_name_of_the_task(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no task name under 'task_name'"):
        SaveMaskd("pred", tmp_path, save_overlay=False)({"pred": torch.zeros(1, 4, 4), "task": torch.tensor(3)})
