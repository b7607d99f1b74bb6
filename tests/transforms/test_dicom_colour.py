"""Every photometric interpretation against the formulas of PS3.3, written out here, or refused."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage
from tests.transforms.conftest import image_object

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]


@pytest.fixture
def rgb() -> Array:
    """(8, 6, 3) uint8."""
    return np.random.default_rng(1).integers(0, 256, (8, 6, 3)).astype(np.uint8)


def read(dataset: Dataset, folder: Path) -> Array:
    """(H, W, 3) as it is read."""
    dataset.save_as(folder / "object", enforce_file_format=True)
    values: Array = LoadMedicalImage()(folder / "object").numpy().transpose(1, 2, 0)
    return values


def ybr_full(rgb: Array) -> Array:
    """PS3.3 C.7.6.3.1.2, (..., 3) RGB -> YBR_FULL, rounded."""
    matrix = [[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5000], [0.5000, -0.4187, -0.0813]]
    return np.clip(np.round(rgb @ np.transpose(matrix) + [0, 128, 128]), 0, 255).astype(np.uint8)


def ybr_partial(rgb: Array) -> Array:
    """PS3.3 C.7.6.3.1.2, (..., 3) RGB -> YBR_PARTIAL, rounded."""
    matrix = [[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]]
    return np.round(rgb @ np.transpose(matrix) + [16, 128, 128]).astype(np.uint8)


def halved(ybr: Array) -> bytes:
    """(H, W, 3) with pairs of equal chroma -> Y Y CB CR."""
    pairs = ybr.reshape(-1, 2, 3)
    return np.column_stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]]).astype(np.uint8).tobytes()


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("frames", [1, 3])
def test_planes_and_frames(tmp_path: Path, rgb: Array, planar: int, frames: int) -> None:
    stack = np.stack([np.roll(rgb, n, axis=0) for n in range(frames)])
    dataset = image_object(rgb, "ES", PlanarConfiguration=planar)
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = (stack.transpose(0, 3, 1, 2) if planar else stack).tobytes()
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    image = LoadMedicalImage(plane="stored" if frames > 1 else "auto")(tmp_path / "a").numpy()
    np.testing.assert_array_equal(image.reshape(3, 8, 6, frames), stack.transpose(3, 1, 2, 0))


def test_ybr_full(tmp_path: Path, rgb: Array) -> None:
    dataset = image_object(ybr_full(rgb), "US", PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read(dataset, tmp_path), rgb, atol=2)  # three roundings


@pytest.mark.parametrize(("kind", "convert"), [("YBR_FULL_422", ybr_full), ("YBR_PARTIAL_422", ybr_partial)])
def test_halved_chroma(tmp_path: Path, rgb: Array, kind: str, convert: Callable[[Array], Array]) -> None:
    even = rgb.repeat(2, axis=1)[:, :6]  # pairs of one colour lose nothing
    dataset = image_object(even, "US", PhotometricInterpretation=kind)
    dataset.PixelData = halved(convert(even))
    np.testing.assert_allclose(read(dataset, tmp_path), even, atol=2)


@pytest.mark.parametrize(("syntax", "kind", "off"), [(JPEG2000Lossless, "YBR_RCT", 0), (JPEG2000, "YBR_ICT", 6)])
def test_the_transforms_of_jpeg_2000(tmp_path: Path, syntax: str, kind: str, off: int) -> None:
    ramp = np.indices((64, 48)).transpose(1, 2, 0)
    smooth = np.concatenate([ramp * [3, 4], 200 - ramp.sum(-1, keepdims=True)], axis=-1).astype(np.uint8)
    dataset = image_object(smooth, "ES", PhotometricInterpretation=kind)
    dataset.compress(syntax, smooth, generate_instance_uid=False, **({"j2k_cr": [4]} if off else {}))
    assert kind == dataset.PhotometricInterpretation
    np.testing.assert_allclose(read(dataset, tmp_path), smooth, atol=off)


@pytest.mark.parametrize(
    "kind", ["YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "MONOCHROME2", "MARK"]
)
def test_other_kinds_of_colour_are_refused_and_not_taken_for_rgb(tmp_path: Path, rgb: Array, kind: str) -> None:
    with pytest.raises(ReadError) as caught:
        read(image_object(rgb, "US", PhotometricInterpretation=kind), tmp_path)
    assert caught.value.code == "E_FORMAT"
    assert "MARK" not in str(caught.value)
    grey = image_object(rgb[..., 0].copy(), "US", PhotometricInterpretation="RGB")
    with pytest.raises(ReadError) as caught:
        read(grey, tmp_path)
    assert caught.value.code == "E_FORMAT"


def test_jpeg_with_partial_ybr_is_refused(tmp_path: Path, rgb: Array) -> None:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG")
    dataset = image_object(rgb, "US", PhotometricInterpretation="YBR_PARTIAL_422")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([file.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(ReadError) as caught:
        read(dataset, tmp_path)
    assert caught.value.code == "E_FORMAT"


def palette(first: int, bits: int, **tables: list[int]) -> dict[str, Any]:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in tables.items():
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries), first, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = np.array(entries, "<u2" if bits == 16 else "u1").tobytes()
    return tags


@pytest.mark.parametrize("lost", ["Data", "Descriptor"])
@pytest.mark.parametrize("colour", ["Red", "Green", "Blue"])
def test_a_palette_without_a_colour_is_named(tmp_path: Path, colour: str, lost: str) -> None:
    tags = palette(0, 8, Red=[1, 2, 3, 4], Green=[1, 2, 3, 4], Blue=[1, 2, 3, 4])
    del tags[f"{colour}PaletteColorLookupTable{lost}"]
    with pytest.raises(ReadError, match="lacks colours of its palette") as caught:
        read(image_object(np.array([[0, 1], [2, 3]], np.uint8), "US", **tags), tmp_path)
    assert caught.value.code == "E_DECODE"


@pytest.mark.parametrize(("kind", "first"), [(np.uint8, 0), (np.uint8, 3), (np.uint16, 700), (np.int16, -2)])
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(tmp_path: Path, kind: type, first: int, bits: int) -> None:
    rng = np.random.default_rng(2)
    tables = {colour: rng.integers(0, 256, 20) for colour in ("Red", "Green", "Blue")}
    entries = {colour: [int(n) << (8 if bits == 16 else 0) for n in table] for colour, table in tables.items()}
    indices = np.clip(rng.integers(first - 3, first + 25, (4, 6)), np.iinfo(kind).min, None).astype(kind)
    found = read(image_object(indices, "US", **palette(first, bits, **entries)), tmp_path)
    place = np.clip(indices.astype(int) - first, 0, 19)  # below the first and above the last: those
    np.testing.assert_array_equal(found, np.stack([tables[c][place] for c in ("Red", "Green", "Blue")], axis=-1))


def test_segmented_palettes(tmp_path: Path) -> None:
    """PS3.3 C.7.9.2: discrete (0), linear (1) and indirect (2) segments."""
    red = [0, 2, 0, 40 << 8, 1, 4, 200 << 8]  # 0, 40, then four steps up to 200
    green = [0, 1, 10 << 8, 1, 5, 110 << 8]
    blue = [0, 3, 1 << 8, 2 << 8, 3 << 8, 2, 1, 0, 0]  # the first segment once more
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in (("Red", red), ("Green", green), ("Blue", blue)):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [6, 0, 16]
        tags[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(table, "<u2").tobytes()
    found = read(image_object(np.arange(6, dtype=np.uint8)[None], "US", **tags), tmp_path)
    expected = [[0, 40, 80, 120, 160, 200], [10, 30, 50, 70, 90, 110], [1, 2, 3, 1, 2, 3]]
    np.testing.assert_allclose(found[0].T, expected, atol=1)


def test_rle_of_a_palette_and_of_planes(tmp_path: Path, rgb: Array) -> None:
    dataset = image_object(rgb, "US")
    dataset.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(read(dataset, tmp_path), rgb)
    table = {"Red": [0, 9], "Green": [5, 7], "Blue": [1, 2]}
    indices = image_object(rgb[..., 0] % 2, "US", **palette(0, 8, **table))
    indices.compress(RLELossless, generate_instance_uid=False)
    expected = np.stack([np.array(table[c])[rgb[..., 0] % 2] for c in table], axis=-1)
    np.testing.assert_array_equal(read(indices, tmp_path), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
def test_modality_luts(tmp_path: Path, kind: type) -> None:
    lut, table = Dataset(), np.array([100, 200, 300, 4000], "<u2")
    lut.LUTDescriptor, lut.ModalityLUTType, lut.LUTData = [4, 10, 16], "HU", table.tobytes()
    stored = np.array([[8, 10, 11, 13, 20]], dtype=kind)
    dataset = image_object(stored, "CT", ModalityLUTSequence=[lut])
    expected = table[np.clip(stored.astype(int) - 10, 0, 3)]
    np.testing.assert_array_equal(read(dataset, tmp_path)[..., 0], expected)
    assert LoadMedicalImage()(tmp_path / "object").meta["intensity"] == "physical"


def test_a_slope_of_nothing_is_refused(tmp_path: Path) -> None:
    dataset = image_object(np.array([[1, 2]], np.uint16), "CT", RescaleSlope=0, RescaleIntercept=3)
    with pytest.raises(ReadError) as caught:
        read(dataset, tmp_path)
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("frames", [1, 3])
def test_one_bit(tmp_path: Path, frames: int) -> None:
    bits = np.random.default_rng(4).integers(0, 2, (frames, 5, 7)).astype(np.uint8)
    dataset = image_object(bits[0], "OT", BitsAllocated=1, BitsStored=1, HighBit=0)
    if frames > 1:
        dataset.NumberOfFrames = frames
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()  # frames follow each other bit by bit
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    image = LoadMedicalImage(plane="stored" if frames > 1 else "auto")(tmp_path / "a").numpy()
    np.testing.assert_array_equal(image[0].reshape(5, 7, frames), bits.transpose(1, 2, 0) * 255)


@pytest.mark.parametrize("big", [False, True])
def test_doubles(tmp_path: Path, big: bool) -> None:
    values = np.array([[0.5, -3.25, 1e6], [7, 8, 9]])
    dataset = image_object(np.zeros((2, 3), np.uint8), "MR", BitsAllocated=64)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.DoubleFloatPixelData = values.astype(">f8" if big else "<f8").tobytes()
    if big:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    np.testing.assert_array_equal(read(dataset, tmp_path)[..., 1], values)


def test_colour_without_a_planar_configuration_is_stored_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    dataset = image_object(pixels, "ES")
    del dataset.PlanarConfiguration
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(LoadMedicalImage()(tmp_path / "a").numpy(), pixels.transpose(2, 0, 1))
