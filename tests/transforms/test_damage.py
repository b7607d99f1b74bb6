"""Damage inside of a file is noticed: checksums are met and lengths compared, whatever a library lets pass."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import tifffile

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
