"""TIFF: its orientation is applied however its pixels are stored, and several pictures are not taken for one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]


def as_shown(stored: Array, orientation: int) -> Array:
    """TIFF 6.0, tag 274: where the first row and the first column of (H, W, ...) `stored` lie -> as it is looked at."""
    if orientation >= 5:  # rows were stored as columns
        stored = np.swapaxes(stored, 0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return stored[::rows, ::columns]


def code_of(path: Path) -> str:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    return caught.value.code


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_orientation(tmp_path: Path, orientation: int, compression: str | None, bigtiff: bool) -> None:
    rng, tags = np.random.default_rng(0), [(274, 3, 1, orientation, True)]
    options: dict[str, Any] = {"compression": compression, "bigtiff": bigtiff, "metadata": None, "extratags": tags}
    grey, rgb = (rng.integers(0, 256, (20, 13, *more)).astype(np.uint8) for more in ((), (3,)))
    for name, stored, photometric in (
        ("g", grey, "minisblack"),
        ("w", grey * np.uint16(257), "minisblack"),
        ("c", rgb, "rgb"),
    ):
        for strip in (None, 7):  # one strip is what PIL would map into memory
            tifffile.imwrite(tmp_path / f"{name}.tif", stored, rowsperstrip=strip, photometric=photometric, **options)
            image = LoadMedicalImage()(tmp_path / f"{name}.tif")
            shown = as_shown(rgb if name == "c" else grey, orientation)
            expected = np.moveaxis(shown, -1, 0) if name == "c" else np.repeat(shown[None], 3, axis=0)
            np.testing.assert_allclose(image.numpy(), expected, atol=1e-3)
            assert image.meta["exif_orientation"] == orientation


def test_floating_point_is_refused_and_a_big_endian_bigtiff_is_not_called_damaged(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.float32))
    assert code_of(tmp_path / "a.tif") == "E_FORMAT"
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5), np.uint8), bigtiff=True, byteorder=">")
    assert code_of(tmp_path / "b.tif") == "E_FORMAT"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_stacks_behind_one_page(tmp_path: Path, kind: type) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (5, 40, 60)).astype(kind)
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True, truncate=True)
    assert code_of(tmp_path / "imagej.tif") == "E_MOSAIC"
    tifffile.imwrite(
        tmp_path / "hyper.tif", stack[:4].reshape(2, 2, 40, 60), imagej=True, truncate=True, metadata={"axes": "ZCYX"}
    )
    assert code_of(tmp_path / "hyper.tif") == "E_MOSAIC"
    for name, tag, number in (
        ("depth", (65000, 4, 1, 5, True), 32997),
        ("planes", (65000, 5, 5, (1, 1) * 5, True), 33629),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, stack[0], metadata=None, extratags=[tag])
        own = struct.pack("<HH", 65000, tag[1])
        path.write_bytes(path.read_bytes().replace(own, struct.pack("<HH", number, tag[1])))
        assert code_of(path) == "E_MOSAIC"
    tifffile.imwrite(tmp_path / "pages.tif", stack)
    assert code_of(tmp_path / "pages.tif") == "E_FORMAT"
    tifffile.imwrite(tmp_path / "shaped.tif", stack, photometric="minisblack", truncate=True)
    assert code_of(tmp_path / "shaped.tif") == "E_MOSAIC"
    for name, picture in (("grey", stack[0]), ("colour", np.moveaxis(stack[:3], 0, -1).astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture)
        assert LoadMedicalImage()(tmp_path / f"{name}.tif").shape == (3, 40, 60)
    tifffile.imwrite(tmp_path / "one.tif", stack[0], imagej=True)
    assert LoadMedicalImage()(tmp_path / "one.tif").shape == (3, 40, 60)


def test_a_long_chain_of_pages_is_not_followed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 4, 5), np.uint8), photometric="minisblack")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    chain = b"".join(b"\0\0" + (len(data) + 6 * (n + 1)).to_bytes(4, "little") for n in range(300_000))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        pages = [page.offset for page in file.pages]
    place = data.index(pages[1].to_bytes(4, "little"), pages[0])
    data[place : place + 4] = len(data).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(bytes(data) + chain)
    assert code_of(tmp_path / "a.tif") == "E_FORMAT"


@pytest.mark.parametrize("compression", [34887, 50001, 50002])
def test_packing_that_is_not_read_is_no_damage(tmp_path: Path, compression: int) -> None:
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "a.tif", compression="raw")
    content = (tmp_path / "a.tif").read_bytes()
    entry = struct.pack("<HHI", 259, 3, 1)  # Compression, one SHORT
    assert content.count(entry) == 1
    place = content.index(entry) + len(entry)
    (tmp_path / "b.tif").write_bytes(content[:place] + struct.pack("<H", compression) + content[place + 2 :])
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(tmp_path / "b.tif")
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_palette_whose_colours_have_eight_bits(tmp_path: Path, compression: str | None) -> None:
    """TIFF 6.0 has 16; libtiff's tools take a table without a value above 255 for one of 8, as some writers mean it."""
    indices = np.random.default_rng(3).integers(0, 256, (40, 60)).astype(np.uint8)
    colours = np.random.default_rng(4).integers(0, 256, (3, 256)).astype(np.uint16)
    for colormap in (colours, colours * 257):
        tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colormap, compression=compression)
        np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "a.tif").numpy(), colours[:, indices])


def test_plain_colours_of_half_the_size_are_not_called_cut(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16, 3), np.uint8), photometric="ycbcr")
    content = (tmp_path / "a.tif").read_bytes()
    whole, halved = (struct.pack("<HHIHH", 530, 3, 2, n, n) for n in (1, 2))
    assert whole in content
    (tmp_path / "a.tif").write_bytes(content.replace(whole, halved))
    assert code_of(tmp_path / "a.tif") == "E_FORMAT"


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_rows_without_strips_are_not_black(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    """PIL fills what no strip or tile covers with 0."""
    tifffile.imwrite(tmp_path / "a.tif", np.full((16, 16), 200, np.uint8), tile=tile, metadata=None)
    assert LoadMedicalImage()(tmp_path / "a.tif").min() == 200
    change_tag(tmp_path / "a.tif", 257, 4000)
    assert code_of(tmp_path / "a.tif") == "E_TRUNCATED"


@pytest.mark.parametrize(("tag", "value", "code"), [(256, 0, "E_DECODE"), (257, 0, "E_DECODE"), (277, 200, "E_FORMAT")])
def test_absurd_numbers(tmp_path: Path, tag: int, value: int, code: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8), metadata=None)
    change_tag(tmp_path / "a.tif", tag, value)
    assert code_of(tmp_path / "a.tif") == code


def test_a_resolution_of_nothing_is_none(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None, resolution=(300, 300))
    change_tag(tmp_path / "a.tif", 282, (0, 0))
    change_tag(tmp_path / "a.tif", 283, (4294967295, 1))
    image = LoadMedicalImage()(tmp_path / "a.tif")
    np.testing.assert_array_equal(image[0].numpy(), values)
    assert "spacing" not in image.meta


def change_tag(path: Path, tag: int, value: Any) -> None:
    """Write a number over that of a tag, where it lies."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[tag].overwrite(value)
