"""A folder of many small studies, as data teams get them: every modality, every format, and a tenth of it broken."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import BasicTextSRStorage, generate_uid

from monai_tpseg.testing.phantoms.dicom import write_dicom_cine, write_dicom_picture, write_dicom_series
from monai_tpseg.testing.phantoms.scene import make_phantom, make_volume
from monai_tpseg.testing.phantoms.write import phantom_seed, write_nifti

__all__ = ["BROKEN", "STUDIES_MANIFEST", "PhantomStudy", "write_studies"]

STUDIES_MANIFEST = "manifest.csv"
"""The name of the list of studies in their folder."""

BROKEN: dict[str, str] = {
    "cut_dicom": "E_TRUNCATED",  # a copy that stopped half way
    "cut_picture": "E_TRUNCATED",
    "cut_volume": "E_TRUNCATED",
    "noise": "E_FORMAT",  # bytes that are nothing, called .dcm
    "report": "E_NOT_IMAGE",  # a structured report: nothing to segment
    "codec": "E_CODEC",  # a compression without a decoder
    "video": "E_VIDEO",
    "huge": "E_TOO_LARGE",  # a header that claims 60,000 x 60,000 pixels
    "no_number": "E_NO_PIXELS",  # a volume of NaN
    "time_points": "E_4D",
}
"""Ways in which a study is broken -> the code that reading it must give."""

_DEPTH = 6  # slices of a volume
_MPEG4 = "1.2.840.10008.1.2.4.102"


class PhantomStudy(NamedTuple):
    """A study of `write_studies`.

    Attributes:
        path: of its file or series folder, relative to the folder of all, with forward slashes.
        task: what to segment.
        form: e.g. `ct_series`.
        broken: a way of `BROKEN`, or "".
    """

    path: str
    task: str
    form: str
    broken: str = ""


_Write = Callable[[Path, str, int, int], Path]  # folder of the study, task, seed, pixels of a side


def write_studies(root: str | Path, count: int = 500, seed: int = 0, size: int = 64) -> list[PhantomStudy]:
    """Write studies of all modalities and formats, each in a folder of its own, and a manifest that names their tasks.

    CT and MR come as DICOM series and NIfTI, ultrasound as single frame, cine and PNG, OCT as multi-frame DICOM and
    PNG; endoscopy, dermoscopy and pathology as DICOM, PNG, JPEG and TIFF. Every tenth study is broken, in the ten ways
    of `BROKEN` by turns: a DICOM object, a picture and a volume cut off; noise called DICOM; a report; an unknown
    codec; a video; absurd dimensions; a volume without a number; several time points.

    Args:
        root: made if absent.
        count: number of studies, 1 to 9999.
        seed: 0 or more; equal arguments give equal files.
        size: pixels of a side, 32 or more.

    Returns:
        the studies in the order of the manifest.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 1 <= count <= 9999:
        raise ValueError(f"The number of studies must be 1 to 9999, got {count}.")
    root = Path(root)
    studies = [_write_study(root, number, phantom_seed("demo", seed, number), size) for number in range(count)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "task"))
    table.writerows((study.path, study.task) for study in studies)
    (root / STUDIES_MANIFEST).write_text(text.getvalue(), encoding="utf-8")
    return studies


def _write_study(root: Path, number: int, seed: int, size: int) -> PhantomStudy:
    folder = root / f"study_{number + 1:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    turn, rest = divmod(number, 10)
    if rest == 9:
        way = list(BROKEN)[turn % len(BROKEN)]
        path, task = _BREAK[way](folder, seed, size)
        return PhantomStudy(path.relative_to(root).as_posix(), task, way, way)
    form = list(_FORMS)[(number - turn) % len(_FORMS)]
    task, write = _FORMS[form]
    return PhantomStudy(write(folder, task, seed, size).relative_to(root).as_posix(), task, form)


def _series(folder: Path, task: str, seed: int, size: int) -> Path:
    return write_dicom_series(make_volume(task, seed, (size, size, _DEPTH)), folder / "series", seed)


def _nifti(folder: Path, task: str, seed: int, size: int) -> Path:
    path, label = write_nifti(make_volume(task, seed, (size, size, _DEPTH)), folder / "volume.nii.gz")
    label.unlink()
    return path


def _cine(folder: Path, task: str, seed: int, size: int) -> Path:
    return write_dicom_cine(make_volume(task, seed, (size, size, _DEPTH)), folder / "cine.dcm")


def _dicom(folder: Path, task: str, seed: int, size: int) -> Path:
    return write_dicom_picture(make_phantom(task, seed, (size, size + 16)), folder / "image.dcm")


def _picture(suffix: str) -> _Write:
    def write(folder: Path, task: str, seed: int, size: int) -> Path:
        path = folder / f"image{suffix}"
        Image.fromarray(make_phantom(task, seed, (size, size + 16)).image).save(path)
        return path

    return write


_FORMS: dict[str, tuple[str, _Write]] = {
    "ct_series": ("lung_infection", _series),
    "mr_series": ("brain_tumor", _series),
    "us_dicom": ("thyroid_nodule", _dicom),
    "us_cine": ("breast_lesion", _cine),
    "oct_dicom": ("wet_amd", _series),
    "endoscopy_jpeg": ("colon_polyp", _picture(".jpg")),
    "dermoscopy_png": ("skin_lesion", _picture(".png")),
    "pathology_tiff": ("adenocarcinoma", _picture(".tif")),
    "ct_nifti": ("lung_infection", _nifti),
    "mr_nifti": ("brain_tumor", _nifti),
    "us_png": ("breast_lesion", _picture(".png")),
    "oct_png": ("wet_amd", _picture(".png")),
    "endoscopy_dicom": ("colon_polyp", _dicom),
    "dermoscopy_dicom": ("skin_lesion", _dicom),
    "pathology_dicom": ("adenocarcinoma", _dicom),
    "dermoscopy_jpeg": ("skin_lesion", _picture(".jpg")),
    "pathology_png": ("adenocarcinoma", _picture(".png")),
}
"""Form -> its task, and what writes it."""


def _cut(task: str, write: _Write) -> Callable[[Path, int, int], tuple[Path, str]]:
    def break_it(folder: Path, seed: int, size: int) -> tuple[Path, str]:
        path = write(folder, task, seed, size)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        return path, task

    return break_it


def _noise(folder: Path, seed: int, size: int) -> tuple[Path, str]:
    path = folder / "image.dcm"
    path.write_bytes(b"\xff" + np.random.default_rng(seed).bytes(4096))
    return path, "skin_lesion"


def _encoded(syntax: str) -> Callable[[Path, int, int], tuple[Path, str]]:
    """A DICOM picture whose header names a transfer syntax of the length of MPEG-4's."""

    def break_it(folder: Path, seed: int, size: int) -> tuple[Path, str]:
        path = _dicom(folder, "colon_polyp", seed, size)
        data = pydicom.dcmread(path)
        data.PixelData = encapsulate([bytes(data.PixelData)])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = _MPEG4
        data.save_as(path)
        path.write_bytes(path.read_bytes().replace(_MPEG4.encode(), syntax.encode()))  # pydicom may not know it
        return path, "colon_polyp"

    return break_it


def _huge(folder: Path, seed: int, size: int) -> tuple[Path, str]:
    path = _dicom(folder, "colon_polyp", seed, size)
    data = pydicom.dcmread(path)
    data.Rows = data.Columns = 60_000
    data.save_as(path)
    return path, "colon_polyp"


def _report(folder: Path, seed: int, size: int) -> tuple[Path, str]:
    path = _dicom(folder, "colon_polyp", seed, size)
    data = pydicom.dcmread(path)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"):
        delattr(data, keyword)
    data.Modality, data.SOPClassUID = "SR", BasicTextSRStorage
    data.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["report", str(seed)])
    data.save_as(path)
    return path, "colon_polyp"


def _no_number(folder: Path, seed: int, size: int) -> tuple[Path, str]:
    path = folder / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((size, size, _DEPTH), np.nan, np.float32), np.eye(4)), path)
    return path, "brain_tumor"


def _time_points(folder: Path, seed: int, size: int) -> tuple[Path, str]:
    path = folder / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((size, size, _DEPTH, 3), np.int16), np.eye(4)), path)
    return path, "brain_tumor"


_BREAK: dict[str, Callable[[Path, int, int], tuple[Path, str]]] = {
    "cut_dicom": _cut("skin_lesion", _dicom),
    "cut_picture": _cut("skin_lesion", _picture(".png")),
    "cut_volume": _cut("brain_tumor", _nifti),
    "noise": _noise,
    "report": _report,
    "codec": _encoded("1.2.840.10008.1.2.4.110"),  # JPEG XL
    "video": _encoded(_MPEG4),
    "huge": _huge,
    "no_number": _no_number,
    "time_points": _time_points,
}
