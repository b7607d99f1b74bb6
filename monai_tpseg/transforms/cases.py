"""What an input path means: one case, or a folder of them."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.transforms.dicom import frame_count, is_dicom, is_image, read_dataset
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.pictures import PICTURE_SUFFIXES
from monai_tpseg.transforms.volumes import ITK_SUFFIXES, NIFTI_SUFFIXES

__all__ = ["OUTPUT_ENDINGS", "READABLE_SUFFIXES", "is_series_folder", "list_cases", "stem"]

READABLE_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *ITK_SUFFIXES)
"""Suffixes of the sources that are known by name; DICOM is known by content."""

OUTPUT_ENDINGS = ("_mask", "_overlay", "_prob")
"""How the stems of our own results end; such files are not taken for inputs of a folder."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def stem(path: Path) -> str:
    """Return the name of a source without the suffixes of its format: `a.nii.gz` -> `a`, `1.2.840` -> `1.2.840`."""
    for suffix in sorted((*READABLE_SUFFIXES, *_DICOM_SUFFIXES), key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_series_folder(path: Path) -> bool:
    """Say whether `path` is a folder whose DICOM images are one case: slices of one series, or one object alone."""
    return path.is_dir() and _is_one_series(path, _dicom_files(path))


def list_cases(path: str | Path) -> list[Path]:
    """Return the cases that an input path means.

    A file is one case, and so is the folder of one DICOM series. Any other folder stands for the pictures, volumes,
    DICOM objects and series in it and below it, sorted; hidden names and our own results are left out.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_EMPTY`, nothing readable; `E_SERIES_MIXED`, slices of several series in one folder.
    """
    path = Path(path)
    if not path.exists():
        raise ReadError("E_NOT_FOUND", f"{base_name(path)} does not exist; check the path.")
    if path.is_file():
        return [path]
    cases = _below(path)
    if not cases:
        raise ReadError("E_EMPTY", f"{base_name(path)} holds no DICOM, NIfTI, NRRD, PNG, JPEG, TIFF or BMP; check the path.")
    return cases


def _below(folder: Path) -> list[Path]:
    dicom = _dicom_files(folder)
    others = [path for path in _visible(folder) if path.is_file() and path not in dicom and _is_input(path)]
    folders = [path for path in _visible(folder) if path.is_dir()]
    whole = _is_one_series(folder, dicom) and not (others and len(dicom) == 1)
    own = [folder, *others] if whole else sorted(others + _single_objects(folder, dicom))
    return own + [case for child in folders for case in _below(child)]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX")


def _is_input(path: Path) -> bool:
    return path.name.lower().endswith(READABLE_SUFFIXES) and not stem(path).endswith(OUTPUT_ENDINGS)


def _dicom_files(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_file() and path.name != "DICOMDIR" and is_dicom(path)]


def _is_one_series(folder: Path, files: list[Path]) -> bool:
    """One object alone, or several single frames of one series that have positions."""
    headers = [header for file in files if is_image(header := read_dataset(file, pixels=False))]
    if len(headers) < 2:
        return len(headers) == 1
    series = {str(header.get("SeriesInstanceUID")) for header in headers}
    return len(series) == 1 and all(_is_slice(header, folder) for header in headers)


def _is_slice(header: object, folder: Path) -> bool:
    return frame_count(header, folder) == 1 and getattr(header, "ImagePositionPatient", None) is not None


def _single_objects(folder: Path, files: list[Path]) -> list[Path]:
    """DICOM objects that are a case each: without positions, multi-frame, or the only slice of their series."""
    headers = {file: header for file in files if is_image(header := read_dataset(file, pixels=False))}
    series = [str(header.get("SeriesInstanceUID")) for header in headers.values() if _is_slice(header, folder)]
    if len(set(series)) < len(series):
        raise ReadError(
            "E_SERIES_MIXED", f"{base_name(folder)} holds the slices of several series; give each series a folder of its own."
        )
    return list(headers)
