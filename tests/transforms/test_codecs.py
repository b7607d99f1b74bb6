"""JPEG and JPEG-LS in DICOM: values against independent decoders, colours undone once, true reasons of refusals."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage
from tests.transforms.conftest import image_object

Array = np.ndarray[Any, np.dtype[Any]]
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JPEG_LS, J2K = (
    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 90)
)


@pytest.fixture
def grey() -> Array:
    """(64, 96) uint16, 10 to 1900."""
    rows, columns = np.indices((64, 96))
    noise = np.random.default_rng(0).normal(0, 8, (64, 96))
    return np.asarray(np.sin(columns / 9) * 300 + np.cos(rows / 7) * 400 + 1000 + noise, np.uint16)


def packed(pixels: Array, codes: list[bytes], syntax: str, modality: str = "CT", **tags: Any) -> Dataset:
    dataset = image_object(pixels, modality, **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(codes)
    dataset["PixelData"].is_undefined_length = True
    return dataset


def read(dataset: Dataset, folder: Path) -> Array:
    """(C, H, W[, D]) as it is read."""
    dataset.save_as(folder / "object", enforce_file_format=True)
    values: Array = LoadMedicalImage(plane="stored" if "NumberOfFrames" in dataset else "auto")(
        folder / "object"
    ).numpy()
    return values


def code_of(folder: Path, dataset: Dataset | None = None) -> str:
    if dataset is not None:
        dataset.save_as(folder / "object", enforce_file_format=True)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(folder / "object")
    return caught.value.code


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("predictor", [1, 4, 7])
def test_lossless(tmp_path: Path, grey: Array, bits: int, predictor: int) -> None:
    values = (grey >> 3 if bits < 11 else grey * 30 if bits == 16 else grey).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    code = imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits, predictor=predictor)
    syntax = LOSSLESS_SV1 if predictor == 1 else LOSSLESS
    dataset = packed(values, [code], syntax, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(read(dataset, tmp_path)[0], values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "object")))[0], values)


def test_signed_lossless(tmp_path: Path, grey: Array) -> None:
    signed = grey.astype(np.int16) - 1024
    code = imagecodecs.jpeg8_encode(signed.view(np.uint16), lossless=True, bitspersample=16)
    np.testing.assert_array_equal(read(packed(signed, [code], LOSSLESS_SV1), tmp_path)[0], signed)


@pytest.mark.parametrize("stored", [10, 12])
def test_jpeg_of_twelve_bits(tmp_path: Path, grey: Array, stored: int) -> None:
    values = grey >> (12 - stored)
    code = imagecodecs.jpeg8_encode(values, level=95, bitspersample=12)
    dataset = packed(values, [code], EXTENDED, BitsStored=stored, HighBit=stored - 1)
    found = read(dataset, tmp_path)[0]
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "object")))[0]
    np.testing.assert_allclose(found, other, atol=1)  # two inverse transforms of one stream
    np.testing.assert_allclose(found, values, atol=80)


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_the_twelve_bits_of_pydicom(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
    np.testing.assert_allclose(LoadMedicalImage()(path)[0].numpy(), other, atol=1)


@pytest.mark.parametrize(("lossless", "syntax"), [(True, LOSSLESS_SV1), (False, EXTENDED)])
def test_streams_that_end_early(tmp_path: Path, grey: Array, lossless: bool, syntax: str) -> None:
    code = imagecodecs.jpeg8_encode(grey, level=90, lossless=lossless, bitspersample=12)
    for last in (code[:-2], code + b"\0\0"):  # nothing is lost
        assert read(packed(grey, [last], syntax, BitsStored=12, HighBit=11), tmp_path).shape == (3, 64, 96)
    for last in (code[: len(code) // 2], code[: len(code) // 2] + b"\xff\xd9", code[:-40] + b"\xff\xd9"):
        frames = packed(grey, [code, last], syntax, BitsStored=12, HighBit=11, NumberOfFrames=2)
        assert code_of(tmp_path, frames) == "E_TRUNCATED"


def test_a_last_frame_that_is_short(tmp_path: Path, grey: Array) -> None:
    frames = image_object(grey, "CT", NumberOfFrames=2)
    frames.PixelData = np.stack([grey, grey]).tobytes()[:-100]
    assert code_of(tmp_path, frames) == "E_TRUNCATED"
    code = imagecodecs.jpegls_encode(grey)
    assert code_of(tmp_path, packed(grey, [code, code[: len(code) // 2]], JPEG_LS, NumberOfFrames=2)) == "E_DECODE"
    code = imagecodecs.jpeg2k_encode(grey, level=0, codecformat="j2k")
    assert code_of(tmp_path, packed(grey, [code, code[: len(code) // 2]], J2K, NumberOfFrames=2)) in (
        "E_DECODE",
        "E_TRUNCATED",
    )


@pytest.mark.parametrize("kind", ["padding", "sampling", "scan"])
def test_jpeg_ls_that_one_decoder_rejects(tmp_path: Path, grey: Array, kind: str) -> None:
    code = bytearray(imagecodecs.jpegls_encode(grey))
    if kind == "padding":
        code[-2:] = b"\0\0\0\0\xff\xd9"
    elif kind == "sampling":
        code[code.index(b"\xff\xf7") + 11] = 0x22
    else:
        code[code.index(b"\xff\xda") + 6] = 9
    dataset = packed(grey, [bytes(code)], JPEG_LS)
    with pytest.raises(RuntimeError):
        pixel_array(dataset, decoding_plugin="pyjpegls")
    np.testing.assert_array_equal(read(dataset, tmp_path)[0], grey)


def test_true_reasons(tmp_path: Path, grey: Array) -> None:
    code = imagecodecs.jpegls_encode(grey)
    empty = image_object(grey, "CT")
    empty.PixelData = b""
    assert code_of(tmp_path, empty) == "E_NO_PIXELS"
    mislabelled = image_object(grey, "CT", PixelData=code + b"\0" * (len(code) % 2))
    with pytest.raises(ReadError, match="uncompressed"):
        read(mislabelled, tmp_path)
    whole = packed(grey, [code], JPEG_LS)
    whole.save_as(tmp_path / "object", enforce_file_format=True)
    content = (tmp_path / "object").read_bytes()
    assert content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    (tmp_path / "object").write_bytes(content[:-8])  # the delimiter alone
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "object")[0].numpy(), grey)
    (tmp_path / "object").write_bytes(content[:-300])
    assert code_of(tmp_path) == "E_TRUNCATED"
    assert code_of(tmp_path, packed(grey, [b"\x12\x34" * 50], BASELINE)) == "E_DECODE"
    three = imagecodecs.jpeg8_encode(np.stack([grey >> 4] * 3, -1).astype(np.uint8))
    assert code_of(tmp_path, packed((grey >> 4).astype(np.uint8), [three], BASELINE)) == "E_DECODE"


def smooth() -> Array:
    ramp = np.indices((32, 48)).transpose(1, 2, 0)
    return np.concatenate([ramp * [6, 4], (255 - 2 * ramp.sum(-1, keepdims=True)).clip(0)], -1).astype(np.uint8)


def jpeg(ybr: bool, adobe: int | None, jfif: bool, names: bytes) -> bytes:
    """`smooth` as a JPEG of YCbCr or RGB, with the markers and names of components asked for."""
    file = BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG", quality=95, subsampling=0, keep_rgb=not ybr)
    code, place, out = file.getvalue(), 2, b"\xff\xd8"
    out += b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" if jfif else b""
    out += b"" if adobe is None else b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([adobe])
    while True:
        marker, size = code[place + 1], int.from_bytes(code[place + 2 : place + 4], "big")
        segment = bytearray(code[place : place + 2 + size])
        if marker == 0xC0:
            segment[10::3] = names
        if marker == 0xDA:
            rest = bytearray(code[place:])
            rest[5:11:2] = names
            return out + bytes(rest)
        out += b"" if marker in (0xE0, 0xEE) else bytes(segment)
        place += 2 + size


@pytest.mark.parametrize("header", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("adobe", [None, 0, 1, 2])
@pytest.mark.parametrize("names", [b"\1\2\3", b"RGB", b"\0\1\2"])
@pytest.mark.parametrize("jfif", [False, True])
def test_a_colour_transform_is_undone_once(
    tmp_path: Path, header: str, adobe: int | None, names: bytes, jfif: bool
) -> None:
    """Where all that is said agrees, the picture that was packed is found; else the case is for a person to look at."""
    ybr = header != "RGB"
    dataset = packed(smooth(), [jpeg(ybr, adobe, jfif, names)], BASELINE, "US", PhotometricInterpretation=header)
    dataset.save_as(tmp_path / "object", enforce_file_format=True)
    image = LoadMedicalImage()(tmp_path / "object")
    agrees = (jfif <= ybr) and (adobe is None or (adobe > 0) == ybr) and (names != b"RGB" or not ybr)
    assert image.meta.get("colour_doubtful", False) == (not agrees)
    if agrees:
        np.testing.assert_allclose(image.numpy().transpose(1, 2, 0), smooth(), atol=8)
        if adobe != 2:  # GDCM ends the process
            other = pixel_array(tmp_path / "object", decoding_plugin="gdcm")
            np.testing.assert_allclose(image.numpy().transpose(1, 2, 0), other, atol=3)


def test_mosaics(tmp_path: Path, grey: Array) -> None:
    for kind in (["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], ["DERIVED", "SECONDARY", "MONTAGE"]):
        assert code_of(tmp_path, image_object(grey, "MR", ImageType=kind)) == "E_MOSAIC"
    private = image_object(grey, "MR")
    private.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    assert code_of(tmp_path, private) == "E_MOSAIC"


@pytest.mark.parametrize("options", [{"codecformat": "j2k"}, {"codecformat": "jp2"}])
def test_a_jpeg_2000_without_all_its_tiles(tmp_path: Path, grey: Array, options: dict[str, Any]) -> None:
    """OpenJPEG makes grey of what is missing, and the picture would pass for whole."""
    code = imagecodecs.jpeg2k_encode(grey, level=0, reversible=True, **options)
    found = read(packed(grey, [code], J2K, "CT", RescaleSlope=1, RescaleIntercept=0), tmp_path)
    np.testing.assert_array_equal(found[0], grey)
    for kept in (len(code) // 3, len(code) - 100):
        assert code_of(tmp_path, packed(grey, [code[:kept]], J2K)) == "E_TRUNCATED"
    size = code.index(b"\xff\x51") + 22  # where the width and the height of a tile stand
    for width in (1, 8, 48):
        claimed = bytearray(code)
        claimed[size : size + 8] = width.to_bytes(4, "big") * 2
        assert code_of(tmp_path, packed(grey, [bytes(claimed)], J2K)) == "E_TRUNCATED"


@pytest.mark.parametrize("several", [False, True])
def test_overlays_above_the_stored_bits_of_a_jpeg_2000(tmp_path: Path, grey: Array, several: bool) -> None:
    """Alone and in a series: 12 bits are stored, and old overlays lie in the bit above."""
    below = grey % 4096
    pixels = below | (np.uint16(4096) * (np.indices(grey.shape)[1] % 2)).astype(np.uint16)
    code = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
    space = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "SeriesInstanceUID": "1.2.9"}
    for n in range(1 + several):
        packed(pixels, [code], J2K, "MR", BitsStored=12, HighBit=11, ImagePositionPatient=[0, 0, n], **space).save_as(
            tmp_path / f"{n}.dcm", enforce_file_format=True
        )
    values = LoadMedicalImage(plane="stored")(tmp_path if several else tmp_path / "0.dcm").numpy()
    np.testing.assert_array_equal(values[0][..., 0] if several else values[0], below)


@pytest.mark.parametrize("transform", [False, True])
def test_a_planar_configuration_means_nothing_in_jpeg_2000(tmp_path: Path, transform: bool) -> None:
    """PS3.5 8.2.4; SimpleITK ignores it, and pydicom rearranges what its decoder has put in order."""
    code = imagecodecs.jpeg2k_encode(smooth(), level=0, reversible=True, codecformat="j2k", mct=transform)
    named = "YBR_RCT" if transform else "RGB"
    dataset = packed(smooth(), [code], J2K, "XC", PhotometricInterpretation=named, PlanarConfiguration=1)
    found = np.moveaxis(read(dataset, tmp_path), 0, -1)
    np.testing.assert_array_equal(found, smooth())
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "object")))[0])


@pytest.mark.parametrize(
    ("transform", "named", "doubtful"), [(True, "YBR_FULL", True), (False, "YBR_FULL", False), (True, "RGB", False)]
)
def test_two_colour_transforms_of_a_jpeg_2000_are_for_review(
    tmp_path: Path, transform: bool, named: str, doubtful: bool
) -> None:
    code = imagecodecs.jpeg2k_encode(smooth(), level=0, reversible=True, codecformat="j2k", mct=transform)
    read(packed(smooth(), [code], J2K, "XC", PhotometricInterpretation=named), tmp_path)
    assert ("colour_doubtful" in LoadMedicalImage()(tmp_path / "object").meta) == doubtful


def test_more_pixels_than_one_frame(tmp_path: Path, grey: Array) -> None:
    dataset = image_object(grey, "CT")
    dataset.PixelData = grey.tobytes() * 2
    assert code_of(tmp_path, dataset) == "E_DECODE"


@pytest.mark.parametrize(("held", "stated"), [(2, 1), (5, 3)])
def test_more_frames_than_stated(tmp_path: Path, grey: Array, held: int, stated: int) -> None:
    dataset = image_object(grey, "US", NumberOfFrames=stated, PixelData=grey.tobytes() * held)
    assert code_of(tmp_path, dataset) == "E_DECODE"
    codes = [imagecodecs.jpegls_encode(grey)] * held
    several = packed(grey, codes, JPEG_LS, "US", NumberOfFrames=stated)
    several.PixelData = encapsulate(codes, has_bot=False)
    several["PixelData"].is_undefined_length = True
    assert code_of(tmp_path, several) == "E_DECODE"


@pytest.mark.parametrize(("width", "copies"), [(3, 1), (2, 2)])
def test_subsampled_chroma_of_another_length(tmp_path: Path, width: int, copies: int) -> None:
    """A frame of YBR_FULL_422 has two bytes per pixel: three are not subsampled, four are two frames."""
    pixels = np.full((20, 24, 3), 128, np.uint8)
    dataset = image_object(pixels, "XC", PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = bytes([128]) * (20 * 24 * width * copies)
    assert code_of(tmp_path, dataset) == "E_DECODE"


def test_a_jpeg_larger_than_its_pixels_labelled_as_uncompressed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(np.uint8)
    code = imagecodecs.jpeg8_encode(noise, level=95)
    assert noise.size < len(code) < 2 * noise.size
    assert code_of(tmp_path, image_object(noise, "XC", PixelData=code + b"\0" * (len(code) % 2))) == "E_DECODE"


def test_a_file_that_ends_inside_its_class(tmp_path: Path, grey: Array) -> None:
    dataset = image_object(grey, "CT")
    dataset.save_as(tmp_path / "object", enforce_file_format=True)
    content = (tmp_path / "object").read_bytes()
    start = content.rindex(str(dataset.SOPClassUID).encode())
    (tmp_path / "object").write_bytes(content[: start + 12])
    assert code_of(tmp_path) == "E_TRUNCATED"


@pytest.mark.parametrize("first", [1500, 5000])
def test_indices_of_a_supplemental_palette_are_no_tissue(tmp_path: Path, grey: Array, first: int) -> None:
    dataset = image_object(grey, "MR", PixelPresentation="COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, first, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes(512))
    if grey.max() >= first:
        assert code_of(tmp_path, dataset) == "E_FORMAT"
    else:
        np.testing.assert_array_equal(read(dataset, tmp_path)[0], grey)


def test_a_series_and_a_slice_that_end_early_have_one_reason(tmp_path: Path, grey: Array) -> None:
    """RLE, whose pixels a series had decoded by another way than a single slice."""
    space = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "SeriesInstanceUID": "1.2.9"}
    for n in range(2):
        dataset = image_object(grey, "CT", ImagePositionPatient=[0, 0, n], **space)
        dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom")
        (code,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([code[: len(code) * 3 // 4]])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(tmp_path / f"{n}.dcm", enforce_file_format=True)
    for source in (tmp_path, tmp_path / "0.dcm"):
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(source)
        assert caught.value.code == "E_TRUNCATED"
