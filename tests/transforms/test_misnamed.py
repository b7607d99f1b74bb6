"""A file that is something else than its name says is refused with what it is, under every name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from monai_tpseg.io import ReadError
from monai_tpseg.io.slide_reader import SlideReader
from monai_tpseg.transforms import LoadMedicalImage

NAMES = ("a.nii", "a.nii.gz", "a.dcm", "a.png", "a.tif", "a.nrrd", "a.mhd", "a.svs", "a", "a.zip")
NIFTI = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)).to_bytes()
PICTURE = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
MGH = nib.MGHImage(np.ones((5, 4, 3), np.float32), np.eye(4)).to_bytes()
NRRD = b"NRRD0005\ntype: int16\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n\n" + bytes(120)
FIELDS = b"NDims = 3\nBinaryData = True\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
META = b"ObjectType = Image\n" + FIELDS + bytes(120)


def picture(form: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, form)
    return content.getvalue()


def packed(mode: str) -> bytes:
    content = io.BytesIO()
    if mode == "zip":
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("a.nii", NIFTI)
    else:
        with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
            entry = tarfile.TarInfo("a.nii")
            entry.size = len(NIFTI)
            archive.addfile(entry, io.BytesIO(NIFTI))
    return content.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 123456\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "zip": (packed("zip"), "E_FORMAT", "is an archive"),
    "tar": (packed("w"), "E_FORMAT", "is an archive"),
    "tar.gz": (packed("w:gz"), "E_FORMAT", "is an archive"),
    "bzip2": (bz2.compress(NIFTI), "E_FORMAT", "is an archive"),
    "xz": (lzma.compress(NIFTI), "E_FORMAT", "is an archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "E_FORMAT", "is an archive"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(99), "E_FORMAT", "is a PDF document"),
    "page": (PAGE, "E_FORMAT", "is a web page or XML"),
    "xml": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "E_FORMAT", "is a web page or XML"),
    "lfs": (LFS, "E_FORMAT", "is a Git LFS pointer"),
    "annex": (
        b"../.git/annex/objects/a1/b2/MD5E-s9--c3.nii.gz/MD5E-s9--c3.nii.gz",
        "E_FORMAT",
        "is a git-annex pointer",
    ),
    "json": (b'{"error": "no such image"}', "E_FORMAT", "is a text file"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(99), "E_FORMAT", "is a video"),
    "gif": (picture("GIF"), "E_FORMAT", "contains GIF"),
    "webp": (picture("WEBP"), "E_FORMAT", "contains WebP"),
    "jp2": (picture("JPEG2000"), "E_FORMAT", "contains JPEG 2000"),
    "mgh": (MGH, "E_FORMAT", "contains MGH; convert it to .nii.gz"),
    "mgz": (gzip.compress(MGH), "E_FORMAT", "is compressed with gzip, and its content contains MGH"),
    "minc": (b"CDF\x01" + bytes(99), "E_FORMAT", "contains NetCDF; convert it to .nii.gz"),
    "empty": (b"", "E_TRUNCATED", "is empty"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", FOREIGN)
def test_the_cause_is_the_same_under_every_name(tmp_path: Path, content: str, name: str) -> None:
    data, code, message = FOREIGN[content]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ReadError, match=rf"^{name} {message}") as caught:
        LoadMedicalImage()(tmp_path / name)
    assert caught.value.code == code


OWN: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "nifti": (NIFTI, (".nii",), ".nii"),
    "nifti.gz": (gzip.compress(NIFTI), (".nii.gz",), ".nii.gz"),
    "nrrd": (NRRD, (".nrrd",), ".nrrd"),
    "meta": (META, (".mhd",), ".mha"),
    "png": (picture("PNG"), (".png", ".tif", ".dcm", "", ".zip"), ".png"),
    "jpeg": (picture("JPEG"), (".png", ".tif", ".dcm", "", ".zip"), ".jpg"),
    "tiff": (picture("TIFF"), (".png", ".tif", ".dcm", "", ".zip"), ".tif"),
    "bmp": (picture("BMP"), (".png", ".tif", ".dcm", "", ".zip"), ".bmp"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", OWN)
def test_an_image_with_a_wrong_suffix_is_read_or_told_the_right_one(tmp_path: Path, content: str, name: str) -> None:
    data, read, right = OWN[content]
    (tmp_path / name).write_bytes(data)
    if name.removeprefix("a") in read:
        assert LoadMedicalImage()(tmp_path / name).shape[0] == 3
        return
    if name == "a.svs" and content in ("jpeg", "tiff"):  # slides may be either
        with pytest.raises(ReadError, match="is a whole slide"):
            LoadMedicalImage()(tmp_path / name)
        return
    with pytest.raises(ReadError, match=rf"rename it to \{right}\b") as caught:
        LoadMedicalImage()(tmp_path / name)
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("name", NAMES)
def test_dicom_is_read_under_every_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    assert LoadMedicalImage()(tmp_path / name).shape == (3, 128, 128)


@pytest.mark.parametrize("name", ["a.nii", "a.dcm", "a.png", "a.nrrd", "a.svs"])
def test_zeros_are_no_header(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(9000))
    with pytest.raises(ReadError, match="begins with zeros") as caught:
        LoadMedicalImage()(tmp_path / name)
    assert caught.value.code == "E_DECODE"


@pytest.mark.parametrize("content", ["zip", "page", "lfs", "empty"])
def test_a_slide_that_is_none_is_called_so(tmp_path: Path, content: str) -> None:
    data, code, message = FOREIGN[content]
    (tmp_path / "a.svs").write_bytes(data)
    with pytest.raises(ReadError, match=rf"^a.svs {message}") as caught:
        SlideReader(tmp_path / "a.svs", 0.5)
    assert caught.value.code == code
