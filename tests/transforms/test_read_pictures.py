"""Pictures: every kind comes as displayed, checked against PIL and against the values that were drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from monai_tpseg.transforms import LoadMedicalImage, LoadMedicalImaged, ReadError

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def rgb(letter: Array) -> Array:
    """(20, 13, 3) uint8: the letter over two ramps."""
    rows, columns = np.indices(letter.shape)
    return np.stack([rows * 10, columns * 12, letter * 200], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp"])
def test_colour_comes_unchanged(tmp_path: Path, rgb: Array, suffix: str) -> None:
    Image.fromarray(rgb).save(tmp_path / f"a.{suffix}")
    image = LoadMedicalImage()(tmp_path / f"a.{suffix}")
    assert image.shape == (3, 20, 13)
    assert str(image.dtype) == "torch.float32"
    np.testing.assert_array_equal(image.numpy(), rgb.transpose(2, 0, 1))
    assert image.meta["source_kind"] == "picture"
    assert image.meta["intensity"] == "display"


def test_jpeg_is_what_pil_decodes(tmp_path: Path, rgb: Array) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.JPEG", quality=90)
    with Image.open(tmp_path / "a.JPEG") as picture:
        expected = np.asarray(picture).transpose(2, 0, 1)
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "a.JPEG").numpy(), expected)


def test_grey_becomes_three_equal_channels(tmp_path: Path, rgb: Array) -> None:
    Image.fromarray(rgb[..., 0]).save(tmp_path / "a.png")
    image = LoadMedicalImage()(tmp_path / "a.png").numpy()
    for channel in image:
        np.testing.assert_array_equal(channel, rgb[..., 0])


def test_alpha_is_dropped_and_not_blended(tmp_path: Path, rgb: Array) -> None:
    alpha = np.zeros((*rgb.shape[:2], 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([rgb, alpha], axis=-1)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "rgba.png").numpy(), rgb.transpose(2, 0, 1))
    Image.fromarray(np.concatenate([rgb[..., :1], alpha], axis=-1), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "la.png")[0].numpy(), rgb[..., 0])


def test_palette_is_looked_up(tmp_path: Path, letter: Array) -> None:
    picture = Image.fromarray(letter, "P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.save(tmp_path / "a.png")
    image = LoadMedicalImage()(tmp_path / "a.png").numpy()
    expected = np.array([[10, 20, 30], [200, 100, 50]])[letter].transpose(2, 0, 1)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 65535], [32768, 1, 300]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = LoadMedicalImage()(tmp_path / f"a.{suffix}")[1].numpy()
    np.testing.assert_allclose(image, values / 257, rtol=1e-6)


def test_one_bit_is_black_and_white(tmp_path: Path, letter: Array) -> None:
    Image.fromarray(letter * 255).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "a.png")[0].numpy(), letter * 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, rgb: Array, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    image = LoadMedicalImage()(tmp_path / "a.png")
    np.testing.assert_array_equal(image.numpy(), shown.transpose(2, 0, 1))
    assert image.meta["exif_orientation"] == orientation
    assert (image.shape[1:] == (13, 20)) == (orientation >= 5)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("missing.png", None, "E_NOT_FOUND"),
        ("empty.png", b"", "E_TRUNCATED"),
        ("noise.png", b"not a picture at all", "E_FORMAT"),
        ("notes.txt", b"hello", "E_FORMAT"),
    ],
)
def test_bad_files_give_a_code_and_one_line(tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / name)
    assert caught.value.code == code
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / f"cut.{suffix}")
    assert caught.value.code == "E_TRUNCATED"


def test_pages_and_floats_are_refused(tmp_path: Path, letter: Array) -> None:
    page = Image.fromarray(letter)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    Image.fromarray(letter.astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("pages.tif", "float.tif"):
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(tmp_path / name)
        assert caught.value.code == "E_FORMAT"


def test_content_goes_before_suffix(tmp_path: Path, rgb: Array) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.dat")
    assert LoadMedicalImage()(tmp_path / "a.dat").shape == (3, 20, 13)


def test_real_pictures_equal_pil(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "lesions"
    if not folder.is_dir():
        pytest.skip("no shared/data/lesions")
    labels = sorted(folder.glob("*/*/label/*.png"))[::150]
    assert labels
    for path in labels:
        image = next(path.parent.parent.glob(f"image/{path.stem}.*"))
        case = LoadMedicalImaged("image", "label")({"image": image, "label": path})
        with Image.open(image) as picture, Image.open(path) as mask:
            np.testing.assert_array_equal(case["image"].numpy(), np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
            np.testing.assert_array_equal(case["label"][0].numpy(), np.asarray(mask.convert("L")) > 127)
