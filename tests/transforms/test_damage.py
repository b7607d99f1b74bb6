"""Damage inside of a file is noticed: checksums are met and lengths compared, whatever a library lets pass."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from benchmarks.jpeg_damage import altered
from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]
SHAPE = (6, 20, 24)  # z, y, x
WRONG = ("E_DECODE", "E_TRUNCATED")


@pytest.fixture
def voxels() -> Array:
    """(6, 20, 24) uint16."""
    return np.random.default_rng(7).integers(0, 1000, SHAPE).astype(np.uint16)


def read(path: Path) -> Array:
    """(z, y, x) as stored."""
    values: Array = LoadMedicalImage(plane="stored")(path)[0].numpy()
    return np.moveaxis(values, -1, 0)


def code_of(path: Path) -> str:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    return caught.value.code


def flipped(content: bytes, share: float) -> bytes:
    data = bytearray(content)
    data[int(len(data) * share)] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("version", [1, 2])
def test_the_checksum_of_gzip(tmp_path: Path, voxels: Array, level: int, version: int) -> None:
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(voxels.T.astype(np.int16), np.diag([2.0, 2, 3, 1]))
    nib.save(image, tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    whole = gzip.compress(plain, level)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read(path), voxels)
    half = len(plain) // 2  # members may follow each other
    path.write_bytes(gzip.compress(plain[:half]) + gzip.compress(plain[half:]))
    np.testing.assert_array_equal(read(path), voxels)
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(flipped(whole, share))
        assert code_of(path) in WRONG
    for checksum in (whole[:-8] + bytes(4) + whole[-4:], whole[:-4] + bytes(4)):
        path.write_bytes(checksum)
        assert code_of(path) == "E_DECODE"
    path.write_bytes(whole[:-8])
    assert code_of(path) == "E_TRUNCATED"


def test_a_stream_that_goes_on_behind_the_voxels(tmp_path: Path, voxels: Array) -> None:
    nib.save(nib.Nifti1Image(voxels.T.astype(np.int16), np.eye(4)), tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain + b"a note"))
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz"), voxels)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain + bytes(2**24 + 2)))
    assert code_of(tmp_path / "a.nii.gz") == "E_DECODE"


@pytest.mark.parametrize(("name", "data"), [("a.mha", "a.mha"), ("a.mhd", "a.zraw")])
def test_a_damaged_metaimage(tmp_path: Path, voxels: Array, name: str, data: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name), useCompression=True)
    np.testing.assert_array_equal(read(tmp_path / name), voxels)
    whole = (tmp_path / data).read_bytes()
    for share in (0.35, 0.5, 0.65, 0.98):
        (tmp_path / data).write_bytes(flipped(whole, share))
        assert code_of(tmp_path / name) in WRONG
    for cut in (2, 300):
        (tmp_path / data).write_bytes(whole[:-cut])
        assert code_of(tmp_path / name) == "E_TRUNCATED"


def metaimage(path: Path, kind: str, fields: str, body: bytes) -> Path:
    head = f"ObjectType = Image\nNDims = 3\n{fields}DimSize = 24 20 6\nElementType = {kind}\nElementDataFile = LOCAL\n"
    path.write_bytes(head.encode() + body)
    return path


@pytest.mark.parametrize("big", [False, True])
def test_metaimages_as_programs_write_them(tmp_path: Path, voxels: Array, big: bool) -> None:
    body = voxels.astype(">u2" if big else "<u2").tobytes()
    order = f"BinaryData = True\nBinaryDataByteOrderMSB = {big}\n"
    packed = zlib.compress(body)
    path = tmp_path / "a.mha"
    for fields, content in (
        (order, body),
        (f"{order}CompressedData = True\n", packed),  # ITK reads it wrong without its size
        (f"{order}CompressedData = True\nCompressedDataSize = {len(packed)}\n", packed),
        (f"{order}CompressedData = True\n", gzip.compress(body)),
        ("BinaryData = False\n", " ".join([*map(str, voxels.ravel()), "\n"]).encode()),
    ):
        np.testing.assert_array_equal(read(metaimage(path, "MET_USHORT", fields, content)), voxels)
    for fields, content, code in (
        (order, body[:-2], "E_TRUNCATED"),
        ("BinaryData = False\n", b"1 2 3", "E_TRUNCATED"),
        (f"{order}CompressedData = True\n", zlib.compress(body[:-2]), "E_DECODE"),
        (f"{order}CompressedData = True\n", zlib.compress(body + b"12"), "E_DECODE"),
    ):
        assert code_of(metaimage(path, "MET_USHORT", fields, content)) == code


def test_a_compressed_metaimage_of_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(tmp_path / "a.mha"), useCompression=True)
    image = LoadMedicalImage(plane="stored")(tmp_path / "a.mha").numpy()
    np.testing.assert_array_equal(image, rgb.transpose(3, 1, 2, 0))


def nrrd(path: Path, encoding: str, body: bytes) -> Path:
    head = f"NRRD0004\ntype: uint16\ndimension: 3\nsizes: 24 20 6\nencoding: {encoding}\nendian: little\n"
    place = "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    path.write_bytes((head + place).encode() + body)
    return path


def test_nrrd(tmp_path: Path, voxels: Array) -> None:
    path, body = tmp_path / "a.nrrd", voxels.tobytes()
    for encoding, content in (
        ("raw", body),
        ("gzip", gzip.compress(body)),
        ("ascii", " ".join(map(str, voxels.ravel())).encode()),
        ("hex", body.hex().encode()),
    ):
        np.testing.assert_array_equal(read(nrrd(path, encoding, content)), voxels)
    for encoding, content, codes in (
        ("raw", body[:-2], ("E_TRUNCATED",)),
        ("gzip", flipped(gzip.compress(body, 0), 0.5), WRONG),
        ("gzip", gzip.compress(body)[:-8], WRONG),
        ("gzip", gzip.compress(body[:-2]), WRONG),
        ("ascii", b"1 2 3", WRONG),
        ("bzip2", bz2.compress(body), ("E_FORMAT",)),
        ("zstd", body, ("E_FORMAT",)),
    ):
        assert code_of(nrrd(path, encoding, content)) in codes, encoding


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_strips_and_tiles(tmp_path: Path, compression: str | None, tile: tuple[int, int] | None, capfd: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (128, 192)).astype(np.uint8) // 16 * 16
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, compression=compression, rowsperstrip=None if tile else 40, tile=tile)
    np.testing.assert_array_equal(LoadMedicalImage()(path)[0].numpy(), values)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        last = page.dataoffsets[-1]
        counts, offsets = page.tags[325 if tile else 279], page.tags[324 if tile else 273]
        order = file.byteorder
    path.write_bytes(whole[: last + 20])
    assert code_of(path) == "E_TRUNCATED"
    for tag in (counts, offsets):  # they lead past the end of the file
        data = bytearray(whole)
        size = tag.valuebytecount // tag.count
        place = tag.valueoffset + size * (tag.count - 1)
        data[place : place + size] = (2 ** (8 * size - 1)).to_bytes(size, "little" if order == "<" else "big")
        path.write_bytes(data)
        assert code_of(path) in WRONG
    if compression == "zlib":
        for place in (last + 30, page.dataoffsets[1] + page.databytecounts[1] - 2):  # inside, and the checksum
            data = bytearray(whole)
            data[place] ^= 0xFF
            path.write_bytes(data)
            assert code_of(path) == "E_DECODE"
    assert capfd.readouterr().err == ""  # found before libtiff complains


@pytest.mark.parametrize("compression", ["lzw", "packbits"])
def test_most_damage_of_streams_without_checksum(tmp_path: Path, compression: str) -> None:
    values = (np.add.outer(np.arange(128) // 5, np.arange(192) // 9) * 9 % 256).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, compression=compression)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        start, count = file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0]
    noticed = 0
    for n in range(40):
        data = bytearray(whole)
        data[start + 3 + n * (count - 6) // 40] ^= 1 << n % 8
        path.write_bytes(data)
        try:
            LoadMedicalImage()(path)
        except ReadError:
            noticed += 1
    assert noticed >= (30 if compression == "lzw" else 8)


def test_a_file_that_ends_inside_of_an_item_blames_no_disc(tmp_path: Path) -> None:
    """pydicom raises an `OSError` there, which is the file's own fault."""
    found = Path(str(pydicom.__file__)).parent / "data" / "test_files" / "SC_rgb_gdcm_KY.dcm"
    (tmp_path / "cut.dcm").write_bytes(found.read_bytes()[:886])
    assert code_of(tmp_path / "cut.dcm") == "E_DECODE"


def smooth(*, noise: int = 0) -> Array:
    """(96, 128, 3) uint8."""
    rows, columns = np.indices((96, 128))
    ramps = np.stack([columns * 2, rows * 2, 255 - columns * 2], -1)
    return (ramps + np.random.default_rng(2).integers(-noise, noise + 1, ramps.shape)).clip(0, 255).astype(np.uint8)


def jpeg(picture: Array, mode: str = "RGB", **how: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", **how)
    return file.getvalue()


LOST = {  # a stream of n bytes -> what is left of it
    "an end that was put behind a cut": lambda code: code[: len(code) // 2] + b"\xff\xd9",
    "the last part": lambda code: code[: int(len(code) * 0.97)] + b"\xff\xd9",
    "a piece inside": lambda code: code[: len(code) // 2] + code[len(code) // 2 + 300 :],
    "zeros inside": lambda code: code[: len(code) // 2] + bytes(40) + code[len(code) // 2 + 40 :],
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("lost", LOST)
def test_a_jpeg_that_libjpeg_fills_up(tmp_path: Path, mode: str, lost: str) -> None:
    """Pillow reads each of these without a word."""
    path = tmp_path / "a.jpg"
    path.write_bytes(LOST[lost](jpeg(smooth(noise=20), mode, quality=92)))
    assert np.asarray(Image.open(path)).shape[:2] == (96, 128)
    assert code_of(path) in WRONG


def test_a_progressive_jpeg_without_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(LOST["the last part"](jpeg(smooth(noise=20), progressive=True)))
    assert code_of(tmp_path / "a.jpg") == "E_TRUNCATED"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("how", [{"progressive": True}, {"restart_marker_rows": 1}])
def test_altered_bytes_of_a_jpeg_whose_decoder_finds_its_position_again(
    tmp_path: Path, mode: str, how: dict[str, Any]
) -> None:
    """The length stays; Pillow decodes other pixels without a word."""
    path = tmp_path / "a.jpg"
    for seed in range(8):
        code = jpeg(smooth(noise=20), mode, quality=92, **how)
        path.write_bytes(altered(code, 40, np.random.default_rng(seed)))
        assert np.asarray(Image.open(path)).shape[:2] == (96, 128)
        assert code_of(path) in WRONG


@pytest.mark.parametrize("how", [{"progressive": True}, {"restart_marker_rows": 1}])
def test_a_whole_jpeg_with_texts_that_jpeg_xl_does_not_read(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(
        jpeg(smooth(noise=20), exif=b"Exif\0\0no directory", icc_profile=b"y" * 70_000, comment=b"a", **how)
    )
    with pytest.raises(imagecodecs.JpegxlError):
        imagecodecs.jpegxl_encode_jpeg(path.read_bytes())
    expected = np.moveaxis(np.asarray(Image.open(path)), -1, 0)
    np.testing.assert_array_equal(LoadMedicalImage()(path).numpy(), expected)


def test_a_whole_jpeg_of_a_sampling_that_jpeg_xl_does_not_know(tmp_path: Path) -> None:
    """A single component may state any sampling factor, which changes none of its pixels."""
    code = bytearray(jpeg(smooth(noise=20), "L", progressive=True))
    sampling = code.index(b"\xff\xc2") + 11
    assert code[sampling] == 0x11
    code[sampling] = 0x31
    (tmp_path / "a.jpg").write_bytes(code)
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(LoadMedicalImage()(tmp_path / "a.jpg")[0].numpy(), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [5, 90, 100])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"optimize": True},
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"restart_marker_rows": 1, "progressive": True},
    ],
)
def test_a_whole_jpeg_is_not_called_damaged(tmp_path: Path, mode: str, quality: int, how: dict[str, Any]) -> None:
    path = tmp_path / "a.jpg"
    white, grey = np.full((33, 17, 3), 255, np.uint8), np.full((33, 17, 3), 128, np.uint8)
    half = np.concatenate([smooth(noise=50)[:20], np.full((40, 128, 3), 255, np.uint8)])
    for picture in (smooth(), smooth(noise=60), white, grey, half, smooth()[:1, :1]):
        for behind in (b"", b"\0" * 9, b"a note"):
            path.write_bytes(jpeg(picture, mode, quality=quality, **how) + behind)
            expected = np.asarray(Image.open(path).convert("RGB"))
            np.testing.assert_array_equal(LoadMedicalImage()(path).numpy(), np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_a_damaged_strip_of_jpeg_in_a_tiff(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(noise=20), compression="jpeg", photometric="rgb", tile=tile, rowsperstrip=32)
    expected = tifffile.imread(path)
    np.testing.assert_allclose(np.moveaxis(LoadMedicalImage()(path).numpy(), 0, -1), expected, atol=2)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, size = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(path.read_bytes())
    content[start + size * 3 // 4 : start + size] = bytes(size - size * 3 // 4)
    path.write_bytes(content)
    assert code_of(path) == "E_DECODE"


def test_an_nrrd_whose_voxels_begin_inside_of_another_file(tmp_path: Path, voxels: Array) -> None:
    fields = "type: uint16\ndimension: 3\nsizes: 24 20 6\nspacings: 1 1 1\nendian: little\nencoding: raw\nbyte skip: 5"
    (tmp_path / "a.nhdr").write_text(f"NRRD0004\n{fields}\ndata file: a.raw\n")
    (tmp_path / "a.raw").write_bytes(b"12345" + voxels.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.nhdr"), voxels)
    (tmp_path / "a.raw").write_bytes(b"12345" + voxels.tobytes()[:-4])
    assert code_of(tmp_path / "a.nhdr") == "E_TRUNCATED"


def test_a_damaged_jpeg_of_dicom(tmp_path: Path, write_dicom: Any) -> None:
    grey = np.asarray(smooth(noise=20)[..., 0] * np.uint16(16))
    kinds = ((True, "1.2.840.10008.1.2.4.70", "a piece inside"), (False, "1.2.840.10008.1.2.4.51", "zeros inside"))
    for lossless, syntax, lost in kinds:
        whole = imagecodecs.jpeg8_encode(grey, bitspersample=12, lossless=lossless, level=None if lossless else 95)
        for code in (whole, LOST[lost](whole)):
            path = write_dicom("a", grey, "MR", BitsStored=12, HighBit=11)
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.PixelData = pydicom.encaps.encapsulate([code])
            dataset["PixelData"].is_undefined_length = True
            dataset.save_as(path)
            if code is whole:
                assert LoadMedicalImage()(path).shape == (3, 96, 128)
            else:
                assert code_of(path) in WRONG


def png(values: Array, rows: int, kind: int, interlaced: bool = False) -> bytes:
    """A PNG of `values`, (H, W[, C]), whose header declares `rows`, as PNG's specification says."""
    parts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = [values[y::down, x::across] for y, x, down, across in parts] if interlaced else [values]
    stream = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for part in passes for row in part)
    head = struct.pack(">IIBBBBB", values.shape[1], rows, values.dtype.itemsize * 8, kind, 0, 0, interlaced)
    packed = zlib.compress(stream)
    chunks = ((b"IHDR", head), (b"IDAT", packed[:50]), (b"IDAT", packed[50:]), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (6, 16)])
def test_rows_that_a_png_lacks_are_not_black(tmp_path: Path, kind: int, bits: int, interlaced: bool) -> None:
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    values = np.random.default_rng(1).integers(1, 2**bits, (19, 13, samples)).astype(f"u{bits // 8}")
    path = tmp_path / "a.png"
    path.write_bytes(png(values, 19, kind, interlaced))
    found = LoadMedicalImage()(path).numpy()
    np.testing.assert_allclose(found[0], values[..., 0] * (255 / (2**bits - 1)), atol=1 if bits == 16 else 0)
    path.write_bytes(png(values[:16], 24, kind, interlaced))
    assert code_of(path) == "E_TRUNCATED"


def test_the_checksums_of_a_png(tmp_path: Path, voxels: Array) -> None:
    path = tmp_path / "a.png"
    whole = png(voxels[0], 20, 0)
    for place in (whole.index(b"IEND") - 5, whole.rindex(b"IDAT") + 9):  # a checksum, and what it is of
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert code_of(path) == "E_DECODE"
    path.write_bytes(whole[:-12])  # nothing is lost with the end
    assert LoadMedicalImage()(path).shape == (3, 20, 24)
