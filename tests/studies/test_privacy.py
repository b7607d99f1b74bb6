"""What names a patient stays in the manifest: marked sources, good and broken, through scan, run and report."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import os
import re
import stat
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from monai_tpseg.cli import main
from monai_tpseg.studies import Limits, Model, Reader, Run, prepare_output, read_manifest
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series, write_nifti
from monai_tpseg.testing.phantoms.slide_phantom import make_slide, write_slide

from .conftest import MARKER, MARKER_UID

DATE, TIME = "19530417", "045317.123456"
_CLASSES = ("SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID")
_CODED = ("Modality", "SpecificCharacterSet", "BodyPartExamined", "PhotometricInterpretation")


class Told(NamedTuple):
    """A run over the marked sources.

    Attributes:
        folder: of the sources.
        out: of the results.
        records: source -> its record.
        said: all messages, those for debugging included.
    """

    folder: Path
    out: Path
    records: dict[str, dict[str, Any]]
    said: str


def brand(path: Path) -> None:
    """Put markers into every text, date and UID of a DICOM file that is no code."""
    header = pydicom.dcmread(path)

    def change(dataset: Any, element: Any) -> None:
        old = str(element.value)
        if element.VR == "UI" and element.keyword not in _CLASSES:
            element.value = f"{MARKER_UID}.{int.from_bytes(old.encode()[-4:], 'big')}"
        elif element.VR in ("LO", "SH", "PN", "LT", "ST", "UT") and element.keyword not in _CODED:
            element.value = MARKER
        elif element.VR in ("DA", "TM", "DT"):
            element.value = {"DA": DATE, "TM": TIME, "DT": DATE + TIME}[element.VR]

    header.walk(change)
    for keyword in ("PatientID", "AccessionNumber", "InstitutionName", "PatientComments", "OperatorsName"):
        setattr(header, keyword, MARKER)
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path)


def write_sources(folder: Path) -> dict[str, str]:
    """Write good and broken sources of each format, and return the task of each by what its name ends in."""
    folder.mkdir(parents=True)
    for name, phantom in (("ct", "lung_infection"), ("mixed", "brain_tumor")):
        series = write_dicom_series(make_volume(phantom, 1, (32, 32, 6)), folder / f"{MARKER}_{name}")
        if name == "mixed":
            more = write_dicom_series(make_volume(phantom, 2, (32, 32, 6)), folder / "more", seed=3)
            for path in more.iterdir():
                path.rename(series / f"again_{path.name}")
            more.rmdir()
        for path in series.iterdir():
            brand(path)
    for name, phantom in (("us", "breast_lesion"), ("es", "colon_polyp"), ("oct", "wet_amd")):
        brand(write_dicom_picture(make_phantom(phantom, 2, 40), folder / f"{MARKER}_{name}.dcm"))
    _write_broken(folder, folder / f"{MARKER}_es.dcm")
    volume, label = write_nifti(make_volume("brain_tumor", 3, (32, 32, 6)), folder / f"{MARKER}_mr.nii.gz")
    label.unlink()
    image = nibabel.load(volume)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = MARKER.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", MARKER.encode() * 4))
    nibabel.save(image, volume)
    skin, texts, exif = Image.fromarray(make_phantom("skin_lesion", 4, (36, 48)).image), PngInfo(), Image.Exif()
    for key in ("Title", "Author", "Description"):
        texts.add_itxt(key, MARKER, zip=key == "Author")
    exif[0x010E] = exif[0x013B] = MARKER  # description, artist
    skin.save(folder / f"{MARKER}_a.png", pnginfo=texts, exif=exif)
    skin.save(folder / f"{MARKER}_b.jpg", exif=exif, comment=MARKER.encode())
    skin.save(folder / f"{MARKER}_c.tif", tiffinfo={270: MARKER, 315: MARKER})
    (folder / f"{MARKER}_d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + MARKER.encode() * 20)
    write_slide(make_slide(1, (200, 300), 128)[0], folder / f"{MARKER}_slide.tif", mpp=1.0)
    (folder / f"{MARKER}_broken.svs").write_bytes(MARKER.encode() * 50)
    return {"ct": "lung_infection", "mixed": "brain_tumor", "us.dcm": "breast_lesion", "oct.dcm": "wet_amd",
            "mr.nii.gz": "brain_tumor", "slide.tif": "adenocarcinoma", "broken.svs": "adenocarcinoma"}  # fmt: skip


def _write_broken(folder: Path, good: Path) -> None:
    """A file that ends early, a number that is a name, an unknown codec, and one that ends its process."""
    whole = good.read_bytes()
    (folder / f"{MARKER}_cut.dcm").write_bytes(whole[: len(whole) // 2])
    _save_as_another(pydicom.dcmread(good), folder / f"{MARKER}_crash.dcm")
    header = pydicom.dcmread(good)
    spacing = Tag("PixelSpacing")
    header[spacing] = RawDataElement(spacing, "DS", 16, f"{MARKER}\\{MARKER}".encode()[:16], 0, False, True)
    header.Rows = 40
    rows = Tag("NumberOfFrames")
    header[rows] = RawDataElement(rows, "IS", 8, MARKER.encode(), 0, False, True)
    _save_as_another(header, folder / f"{MARKER}_vr.dcm")
    header = pydicom.dcmread(good)
    header.file_meta.TransferSyntaxUID = UID(f"{MARKER_UID}.9")
    _save_as_another(header, folder / f"{MARKER}_codec.dcm", implicit_vr=False, little_endian=True)


def _save_as_another(header: Any, path: Path, **how: bool) -> None:
    """Copies of one object would count once."""
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = (
        f"{MARKER_UID}.{int.from_bytes(path.stem[-4:].encode(), 'big')}"
    )
    header.save_as(path, **how)


@pytest.fixture(scope="module")
def told(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One run over all of them."""
    folder, said = tmp_path_factory.mktemp("private"), io.StringIO()
    tasks = write_sources(folder / f"{MARKER}_in")
    typed = tmp_path_factory.mktemp("typed")  # messages repeat what was typed, and no source
    manifest, out = typed / "manifest.csv", typed / "out"
    handler, root = logging.StreamHandler(said), logging.getLogger()
    level, stack = root.level, ExitStack()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    reader = Reader(Limits(seconds=60), target="tests.studies.conftest:read_or_fall")
    try:
        stack.enter_context(redirect_stderr(said))
        stack.enter_context(redirect_stdout(said))
        assert main(["scan", str(folder / f"{MARKER}_in"), "--out", str(manifest)]) == 0
        entries = [
            entry if entry.task else type(entry)(**{**vars(entry), "task": _task(entry.path, tasks)})
            for entry in read_manifest(manifest)
        ]
        cases = prepare_output(out, entries, "salted", False)
        Run(model, out, reader=reader)(cases)
        assert main(["report", str(out)]) == 0
    finally:
        stack.close()
        root.removeHandler(handler)
        root.setLevel(level)
    names = {name: f"{entry.path}{entry.part}" for name, entry in cases}
    found = {names[path.parent.name]: json.loads(path.read_text()) for path in out.glob("cases/*/result.json")}
    return Told(folder / f"{MARKER}_in", out, found, said.getvalue())


def _task(path: str, tasks: dict[str, str]) -> str:
    return next((task for end, task in tasks.items() if path.endswith(end)), "skin_lesion")


def secrets(folder: Path, out: Path) -> list[str]:
    """What nobody else may see."""
    return [
        MARKER,
        MARKER_UID,
        DATE,
        TIME,
        str(folder),
        folder.parent.name,
        read_manifest(out / "manifest.csv")[0].salt,
    ]


def test_each_source_ends_as_it_should(told: Told) -> None:
    codes = {path.replace(f"{MARKER}_", ""): record["code"] for path, record in told.records.items()}
    assert {path: code for path, code in codes.items() if code} == {
        "crash.dcm": "E_CRASH",
        "cut.dcm": "E_TRUNCATED",
        "vr.dcm": codes["vr.dcm"],
        "codec.dcm": codes["codec.dcm"],
        "d.png": "E_TRUNCATED",
        "broken.svs": "E_FORMAT",
    }
    assert codes["vr.dcm"].startswith("E_")
    assert codes["codec.dcm"] in ("E_CODEC", "E_DECODE")
    assert {"ct", "us.dcm", "es.dcm", "oct.dcm", "mr.nii.gz", "a.png", "b.jpg", "c.tif", "slide.tif"} <= set(codes)


def test_nothing_private_is_in_any_file_but_the_manifest(
    told: Told,
) -> None:
    folder, out, _, _ = told
    kinds = set()
    for file in out.rglob("*"):
        name = str(file.relative_to(out))
        kinds.add("".join(file.suffixes))
        content = b"" if file.is_dir() or name == "manifest.csv" else contents(file)
        for secret in secrets(folder, out):
            assert secret not in name
            if file.suffix == ".dcm" and secret != str(folder) and secret != folder.parent.name:
                continue  # a DICOM segmentation belongs to its patient and study; documented
            for encoding in ("utf-8", "utf-16-le"):
                assert secret.encode(encoding) not in content, f"{secret} in {name}"
    assert {".json", ".csv", ".png", ".nii.gz", ".dcm", ".tiff", ".geojson", ".html", ".jsonl"} <= kinds


def contents(file: Path) -> bytes:
    """The bytes of a file, unpacked: gzip, text chunks of PNG, pictures inside of HTML."""
    content = file.read_bytes()
    if file.suffix == ".gz":
        return gzip.decompress(content)
    if file.suffix == ".png":
        with Image.open(file) as picture:
            return content + repr(picture.info).encode() + repr(dict(picture.getexif())).encode()
    if file.suffix == ".html":
        pictures = re.findall(rb"base64,([\w+/=]+)", content)
        return content + b"".join(base64.b64decode(picture) for picture in pictures)
    return content


def file_of(told: Told, source: str, kind: str) -> Path:
    """A file of the results of a source."""
    (record,) = (record for path, record in told.records.items() if path == f"{MARKER}_{source}")
    return told.out / "cases" / record["case"] / record["files"][kind]


def test_masks_carry_no_text_of_their_source(told: Told) -> None:
    mask = nibabel.load(file_of(told, "mr.nii.gz", "mask"))
    assert len(mask.header.extensions) == 0
    assert all(
        not bytes(mask.header[field]).strip(b"\0") for field in ("descrip", "aux_file", "intent_name", "db_name")
    )
    for path in told.out.glob("cases/*/*.png"):
        with Image.open(path) as picture:
            assert picture.info == {}


def test_nothing_private_is_said(told: Told, capfd: pytest.CaptureFixture[str], model: Model) -> None:
    folder, out, _, said = told
    assert "cases, " in said  # of the scan
    assert "case/s" in said or "s/case" in said  # of the progress
    for secret in secrets(folder, out):
        assert secret not in said, secret
    run = ["run", "--data", str(out / "manifest.csv"), "--out", str(out.parent / "again"), "--checkpoint"]
    capfd.readouterr()
    main([*run, str(out / "absent.pt")])
    assert MARKER not in "".join(capfd.readouterr())


def test_what_is_said_on_a_terminal_names_nobody(
    told: Told,
    weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, out = told.folder, told.out
    for number, source in enumerate(
        (f"{MARKER}_cut.dcm", f"{MARKER}_vr.dcm", f"{MARKER}_codec.dcm", f"{MARKER}_broken.svs")
    ):
        task = "adenocarcinoma" if source.endswith("svs") else "colon_polyp"
        where = ["--out", str(tmp_path / f"out_{number}"), "--checkpoint", str(weights), "--device", "cpu"]
        assert main(["run", str(folder / source), "--task", task, *where]) == 3
    said = "".join(capfd.readouterr())
    assert "failed" in said
    for secret in secrets(folder, out):
        assert secret not in said


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_files_are_as_private_as_the_umask_asks(told: Told, weights: Path, tmp_path: Path, mask: int) -> None:
    source, out = told.folder / f"{MARKER}_a.png", tmp_path / "out"
    before = os.umask(mask)
    try:
        run = ["run", str(source), "--task", "skin_lesion", "--out", str(out), "--checkpoint", str(weights), "--quiet"]
        assert main([*run, "--device", "cpu"]) == 0
        assert main(["report", str(out), "--quiet"]) == 0
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [out, *out.rglob("*")]}
    assert not [path for path, bits in modes.items() if bits & mask]
    assert modes[out / "manifest.csv"] == 0o600


def test_the_manifest_is_private_from_its_first_byte(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from monai_tpseg.studies import Entry, write_manifest

    seen: list[int] = []
    real = os.fdopen

    def look(descriptor: int, *arguments: Any, **options: Any) -> Any:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, *arguments, **options)

    monkeypatch.setattr(os, "fdopen", look)
    before = os.umask(0)
    try:
        write_manifest(tmp_path / "m.csv", [Entry("a.png", tmp_path, "", "00" * 16)])
    finally:
        os.umask(before)
    assert seen == [0o600]
