"""Foreign files neither take memory without end, nor lead elsewhere, nor put what they hold into a message."""

from __future__ import annotations

import gzip
import logging
import os
import struct
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.encaps import encapsulate

from monai_tpseg.io import ReadError, list_cases, safety
from monai_tpseg.io.headers import read_header
from monai_tpseg.transforms import LoadMedicalImage
from tests.transforms.conftest import dicomdir

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]
MARK = "MARKER"


def refused(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    return caught.value


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("size", [(9000, 9000), (200_000, 200_000)])
def test_absurd_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size) + b"\0\0\0\0IEND\xaeB`\x82")
    assert refused(tmp_path / "a.png").code == "E_TOO_LARGE"


def test_a_picture_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (9, 9, 9)).save(tmp_path / "a.jpg", quality=30)
    flat = LoadMedicalImage()(tmp_path / "a.jpg")  # one colour, as small as a JPEG gets, is no bomb
    assert flat.shape == (3, 200, 300)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 1000, 60_000)
    (tmp_path / "b.jpg").write_bytes(data)
    assert refused(tmp_path / "b.jpg").code == "E_TRUNCATED"
    Image.new("1", (3000, 3000)).save(tmp_path / "white.png")
    assert LoadMedicalImage("label")(tmp_path / "white.png").shape == (1, 3000, 3000)


def test_absurd_volumes(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.int16), np.eye(4))
    for shape, code in (((20_000, 20_000, 20_000), "E_TOO_LARGE"), ((250, 250, 250), "E_TRUNCATED")):
        image.header.set_data_shape(shape)
        content = image.header.binaryblock + bytes(4 + 16)
        (tmp_path / "a.nii").write_bytes(content)
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
        header = f"ObjectType = Image\nNDims = 3\nDimSize = {' '.join(map(str, shape))}\nElementType = MET_SHORT\n"
        (tmp_path / "a.mha").write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + bytes(16))
        for name in ("a.nii", "a.nii.gz", "a.mha"):
            assert refused(tmp_path / name).code == code, name


def test_absurd_dicom(write_dicom: Write, tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), dtype=np.uint8)
    assert refused(write_dicom("a", pixels, Rows=60_000, Columns=60_000)).code == "E_TOO_LARGE"
    assert refused(write_dicom("b", pixels, Rows=4000, Columns=4000, NumberOfFrames=900)).code == "E_TOO_LARGE"
    dataset = pydicom.dcmread(write_dicom("c", pixels, Rows=8000, Columns=8000))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 8])
    dataset.save_as(tmp_path / "rle")
    assert refused(tmp_path / "rle").code == "E_TRUNCATED"


def test_a_deflated_bomb(write_dicom: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pydicom.dcmread(write_dicom("a", np.zeros((600, 600), dtype=np.uint8)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b")
    assert LoadMedicalImage()(tmp_path / "b").shape == (3, 600, 600)
    monkeypatch.setattr("monai_tpseg.io.dicom.deflated.MAX_BYTES", 300_000)
    assert refused(tmp_path / "b").code == "E_TOO_LARGE"


@pytest.mark.parametrize("start", ["preamble", "none"])
def test_a_deflated_bomb_however_it_begins(
    write_dicom: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    dataset = pydicom.dcmread(write_dicom("a", np.zeros((600, 600), dtype=np.uint8)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b")
    if start == "none":
        (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[132:])
    assert LoadMedicalImage()(tmp_path / "b").shape == (3, 600, 600)
    inflated: list[int] = []
    whole = zlib.decompress

    def counted(*given: Any, **more: Any) -> bytes:
        inflated.append(len(unpacked := whole(*given, **more)))
        return unpacked

    monkeypatch.setattr(zlib, "decompress", counted)
    monkeypatch.setattr("monai_tpseg.io.dicom.deflated.MAX_BYTES", 300_000)
    assert refused(tmp_path / "b").code == "E_TOO_LARGE"
    assert list_cases(tmp_path / "b") == [tmp_path / "b"]
    assert max(inflated, default=0) < 300_000  # by pydicom, which knows no limit


@pytest.mark.parametrize("start", ["preamble", "none"])
def test_a_scan_unpacks_no_pixels(
    write_dicom: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """A header of 300 kB and pixels of 16 MB, deflated to 20 kB: what is unpacked is counted."""
    dataset = pydicom.dcmread(write_dicom("a", np.zeros((4000, 4000), dtype=np.uint8), PatientName="Phantom"))
    dataset.private_block(0x0009, "PHANTOM", create=True).add_new(1, "OB", bytes(300_000))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b")
    if start == "none":
        (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[132:])
    assert (tmp_path / "b").stat().st_size < 50_000
    found: list[int] = []
    whole, real = zlib.decompress, zlib.decompressobj

    class Counted:
        def __init__(self, *given: Any) -> None:
            self.inflate = real(*given)

        def decompress(self, *given: Any) -> bytes:
            found.append(len(unpacked := self.inflate.decompress(*given)))
            return unpacked

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inflate, name)

    def counted(*given: Any, **more: Any) -> bytes:
        found.append(len(unpacked := whole(*given, **more)))
        return unpacked

    monkeypatch.setattr(zlib, "decompress", counted)
    monkeypatch.setattr(zlib, "decompressobj", Counted)
    header = read_header(tmp_path / "b")
    assert (header.code, header.modality, header.image) == ("", "US", True)
    assert sum(found) < 4_000_000
    monkeypatch.setattr("monai_tpseg.io.dicom.deflated.MAX_HEADER", 200_000)
    assert read_header(tmp_path / "b").code == "E_TOO_LARGE"


def test_an_index_is_not_followed_and_refused_when_it_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    assert refused(dicomdir(tmp_path / "DICOMDIR", ("A", "IM1"))).code == "E_NOT_IMAGE"
    for parts in (("..", "secret"), ("A/../../secret",), ("/etc", "passwd"), ("C:", "X")):
        assert refused(dicomdir(tmp_path / "other.dcm", parts)).code == "E_OUTSIDE"


@pytest.mark.parametrize("target", ["/etc/passwd", "../a.raw", "x/../../a.raw", "C:\\a.raw"])
def test_voxels_outside_the_folder(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(8))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mhd").write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {target}\n"
    )
    kind = "type: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
    (folder / "a.nhdr").write_text(f"NRRD0004\n{kind}data file: {target}\n\n")
    for name in ("a.mhd", "a.nhdr"):
        assert refused(folder / name).code == "E_OUTSIDE"


def test_voxels_beside_their_header(tmp_path: Path, letter_volume: Array) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(letter_volume.T) * np.uint8(9))
    for name in ("a.mhd", "a.nhdr"):
        sitk.WriteImage(image, str(tmp_path / name))
        assert LoadMedicalImage()(tmp_path / name).max() == 9
    (tmp_path / "a.raw").unlink()
    assert refused(tmp_path / "a.mhd").code == "E_NOT_FOUND"


def test_pipes_and_circles_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert refused(tmp_path / "pipe.png").code == "E_FORMAT"
    folder = tmp_path / "study" / "series"
    folder.mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "a.png")
    for n in range(6):
        (folder / f"up{n}").symlink_to(tmp_path / "study")
    assert list_cases(tmp_path / "study") == [folder / "a.png"]


def test_a_broken_file_is_a_case_and_stops_no_listing(tmp_path: Path, write_dicom: Write) -> None:
    good = write_dicom("good", np.zeros((4, 4), dtype=np.uint8))
    for name in ("bad1", "bad2"):
        (tmp_path / name).write_bytes(good.read_bytes()[:150] + b"\xff" * 40)
    assert list_cases(tmp_path) == [tmp_path / "bad1", tmp_path / "bad2", good]
    assert refused(tmp_path / "bad1").code in ("E_DECODE", "E_TRUNCATED", "E_NO_PIXELS", "E_FORMAT")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", MARK),
        ("NumberOfFrames", MARK),
        ("BitsStored", MARK),
        ("RescaleSlope", MARK),
        ("PixelSpacing", MARK),
        ("PhotometricInterpretation", MARK),
        ("ImagePositionPatient", MARK),
    ],
)
def test_nothing_of_a_header_or_path_gets_out(
    tmp_path: Path, write_dicom: Write, caplog: pytest.LogCaptureFixture, capfd: Any, keyword: str, value: str
) -> None:
    folder = tmp_path / f"{MARK}^folder"
    folder.mkdir()
    tags = {"PatientName": f"{MARK}^Jane", "PatientID": MARK, "StudyInstanceUID": "1.2.3.4444", "StudyDate": MARK}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(write_dicom("a", np.zeros((4, 4), np.uint16), "CT", **tags))
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian  # values of any kind fit
        tag = pydicom.tag.Tag(keyword)
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, None, len(value), value.encode(), 0, True, True)
        dataset.save_as(folder / "IM1")
    capfd.readouterr()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "pydicom")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shown, behind = _refusal(folder / "IM1")
    heard = [shown, caplog.text, *(str(one.message) for one in said), *capfd.readouterr()]
    assert [text for text in heard if MARK in text or "4444" in text] == []
    assert behind == [None, None]


def _refusal(path: Path) -> tuple[str, list[BaseException | None]]:
    """What the traceback of a refusal shows, and the exceptions behind it."""
    try:
        LoadMedicalImage()(path)
    except ReadError as error:
        return "".join(traceback.format_exception(error)) + repr(error), [error.__cause__, error.__context__]
    return "", [None, None]


def test_a_guard_passes_results_and_interrupts_and_names_the_line() -> None:
    assert safety.read_safely(lambda: 7, "a") == 7

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safety.read_safely(interrupt, "a")

    class Panic(BaseException):
        """What a library in Rust raises."""

    def panic() -> None:
        raise Panic(MARK)

    with pytest.raises(ReadError, match=r"a could not be read \(Panic at test_safety.py:\d+\)") as caught:
        safety.read_safely(panic, "a")
    assert caught.value.code == "E_READ"
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyError(MARK), "E_READ"),
        (RuntimeError(MARK), "E_READ"),
        (OSError(5, MARK), "E_READ"),
        (FileNotFoundError(2, MARK), "E_NOT_FOUND"),
        (PermissionError(13, MARK), "E_NOT_FOUND"),
        (EOFError(MARK), "E_TRUNCATED"),
        (MemoryError(MARK), "E_TOO_LARGE"),
        (ReadError("E_4D", "a"), "E_4D"),
    ],
)
def test_no_cause_is_named_that_is_not_known(raised: Exception, code: str) -> None:
    def read() -> None:
        raise raised

    with pytest.raises(ReadError) as caught:
        safety.read_safely(read, "a")
    assert caught.value.code == code
    assert MARK not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "IM1"])
def test_a_disc_that_fails_is_no_damage(
    tmp_path: Path, write_dicom: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The error of a disc, as the libraries pass it on, is not called damage of the file."""
    if name == "IM1":
        write_dicom(name, np.zeros((4, 4), np.uint8))
    elif name == "a.png":
        Image.new("L", (4, 4)).save(tmp_path / name)
    else:
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / name)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    place = {"IM1": "monai_tpseg.io.dicom.object.read_partial", "a.png": "PIL.Image.open"}
    monkeypatch.setattr(place.get(name, "nibabel.Nifti1Image.from_filename"), fail)
    assert refused(tmp_path / name).code == "E_READ"
