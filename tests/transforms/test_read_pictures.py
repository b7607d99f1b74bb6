"""Pictures: every kind comes as displayed, checked against PIL and against the values that were drawn."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage, LoadMedicalImaged

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


def chunked_png(
    size: tuple[int, int], depth: int, kind: int, rows: list[bytes], more: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG of any bit depth and colour type, as PIL does not write them, with more chunks before its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", head), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_sixteen_bits(tmp_path: Path, kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 10, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(chunked_png((12, 10), 16, kind, [row.astype(">u2").tobytes() for row in values]))
    found = LoadMedicalImage()(tmp_path / "a.png").numpy()
    seen = values[..., :3] if channels >= 3 else values[..., :1].repeat(3, axis=-1)  # alpha is dropped
    # PIL keeps the upper 8 bits of all kinds but plain grey
    np.testing.assert_allclose(found, seen.transpose(2, 0, 1) / 257, atol=1e-4 if kind == 0 else 1)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits(tmp_path: Path, depth: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**depth, (12, 8))
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    rows = [np.packbits(row.ravel()).tobytes() for row in bits.astype(np.uint8)]
    (tmp_path / "a.png").write_bytes(chunked_png((12, 8), depth, 0, rows))
    expected = values * (255 / (2**depth - 1))
    np.testing.assert_allclose(LoadMedicalImage()(tmp_path / "a.png")[0].numpy(), expected)


@pytest.mark.parametrize("transparency", [1, bytes([0, 128, 255])])
def test_a_transparent_palette_keeps_its_colours(tmp_path: Path, letter: Array, transparency: int | bytes) -> None:
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], dtype=np.uint8)
    picture = Image.fromarray(letter, "P")
    picture.putpalette(colours.tobytes())
    picture.save(tmp_path / "a.png", transparency=transparency)
    picture.save(tmp_path / "a.bmp")
    for name in ("a.png", "a.bmp"):
        found = LoadMedicalImage()(tmp_path / name).numpy()
        np.testing.assert_array_equal(found, colours[letter].transpose(2, 0, 1))


def test_cmyk_comes_as_rgb(tmp_path: Path, rgb: Array) -> None:
    picture = Image.fromarray(rgb).convert("CMYK")
    picture.save(tmp_path / "a.tif")
    picture.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    Image.fromarray(rgb).save(tmp_path / "b.jpg", quality=100, subsampling=0, progressive=True)
    for name, off in (("a.tif", 0), ("a.jpg", 4), ("b.jpg", 4)):
        np.testing.assert_allclose(LoadMedicalImage()(tmp_path / name).numpy(), rgb.transpose(2, 0, 1), atol=off)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"compression": "zlib", "predictor": True},
        {"extrasamples": ["unassalpha"]},
    ],
    ids=str,
)
def test_kinds_of_tiff(tmp_path: Path, rgb: Array, how: dict[str, Any]) -> None:
    values = np.concatenate([rgb, rgb[..., :1] // 2], axis=-1) if "extrasamples" in how else rgb
    values = np.ascontiguousarray(values.transpose(2, 0, 1)) if "planarconfig" in how else values
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **how)
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "a.tif").numpy(), rgb.transpose(2, 0, 1))


@pytest.mark.parametrize(("kind", "order"), [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<")])
def test_tiff_whose_white_is_nothing(tmp_path: Path, rgb: Array, kind: type, order: str) -> None:
    stored = rgb[..., 0].astype(kind) * kind(np.iinfo(kind).max // 255)
    for photometric, expected in (("minisblack", rgb[..., 0]), ("miniswhite", 255 - rgb[..., 0])):
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, byteorder=order)
        np.testing.assert_allclose(LoadMedicalImage()(tmp_path / "a.tif")[0].numpy(), expected, atol=1e-4)


def test_tiff_of_twelve_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (6, 8))
    bits = (values[..., None] >> np.arange(12)[::-1]) & 1
    data = np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    tags = [(256, 8), (257, 6), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 6), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    (tmp_path / "a.tif").write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    found = LoadMedicalImage()(tmp_path / "a.tif")[0].numpy()
    np.testing.assert_allclose(found, values * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (np.ones((3, 6, 8), np.uint16), {"planarconfig": "separate", "photometric": "rgb"}),  # PIL mixes them up
        (np.full((6, 8), -3, np.int8), {}),
        (np.full((6, 8), -3, np.int16), {}),
        (np.full((6, 8), 70_000, np.uint32), {}),
        (np.ones((6, 8), np.float64), {}),
        (np.ones((6, 8, 3), np.float32), {"photometric": "rgb"}),
        (np.ones((6, 8, 6), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_tiff_that_is_no_picture_of_eight_or_sixteen_bits(tmp_path: Path, values: Array, how: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **how)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "a.tif")
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("suffix", ["gif", "webp", "ppm", "jp2"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, rgb: Array, suffix: str) -> None:
    Image.fromarray(rgb).save(tmp_path / f"a.{suffix}")
    (tmp_path / "b.png").write_bytes((tmp_path / f"a.{suffix}").read_bytes())
    for name in (f"a.{suffix}", "b.png"):
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(tmp_path / name)
        assert caught.value.code == "E_FORMAT"


def test_jpeg_of_twelve_bits_and_without_loss(tmp_path: Path, rgb: Array) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    place = data.index(b"\xff\xc0")
    for marker, bits in ((0xC0, 12), (0xC3, 8)):
        data[place + 1], data[place + 4] = marker, bits
        (tmp_path / "b.jpg").write_bytes(data)
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(tmp_path / "b.jpg")
        assert caught.value.code in ("E_FORMAT", "E_DECODE")


@pytest.mark.parametrize(
    ("size", "more", "code", "word"),
    [
        ((12, 8), (), "E_DECODE", "colours of its palette"),
        ((12, 8), ((b"PLTE", bytes(9)),), "E_DECODE", "colours of its palette"),
        ((0, 8), ((b"PLTE", bytes(12)),), "E_DECODE", "no rows or no columns"),
        ((12, 0), ((b"PLTE", bytes(12)),), "E_DECODE", "no rows or no columns"),
        ((12, 8), ((b"pHYs", b"1"), (b"PLTE", bytes(12))), "E_DECODE", "damaged header"),
    ],
)
def test_headers_of_png(tmp_path: Path, size: tuple[int, int], more: Any, code: str, word: str) -> None:
    """PIL makes pixels black whose colour is missing."""
    rows = [bytes(n % 4 for n in range(size[1])) for _ in range(size[0])]
    (tmp_path / "a.png").write_bytes(chunked_png(size, 8, 3, rows, more))
    with pytest.raises(ReadError, match=word) as caught:
        LoadMedicalImage()(tmp_path / "a.png")
    assert caught.value.code == code


@pytest.mark.parametrize(
    "chunk", [(b"pHYs", bytes([255] * 4 + [0] * 4 + [1])), (b"tRNS", bytes([1, 2])), (b"sBIT", b"1")]
)
def test_chunks_of_png_that_change_no_pixel(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 8)).astype(np.uint16)
    values[0, 0] = 258  # declared transparent
    rows = [row.astype(">u2").tobytes() for row in values]
    (tmp_path / "a.png").write_bytes(chunked_png((12, 8), 16, 0, rows, (chunk,)))
    np.testing.assert_allclose(LoadMedicalImage()(tmp_path / "a.png")[0].numpy(), values / 257, atol=1e-4)
