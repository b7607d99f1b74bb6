"""What kind of source a file is: by its content first, by its suffix where that does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from monai_tpseg.io.dicom.object import is_dicom
from monai_tpseg.io.pictures import PICTURE_SUFFIXES, is_picture
from monai_tpseg.io.slides import SLIDE_SUFFIXES, is_slide
from monai_tpseg.io.volumes import ITK_SUFFIXES, NIFTI_SUFFIXES

__all__ = ["DICOM_SUFFIXES", "OUTPUT_ENDINGS", "READABLE_SUFFIXES", "Kind", "kind_of", "kind_without_dicom", "stem"]

Kind = Literal["dicom", "slide", "nifti", "itk", "picture", ""]
"""What reads a file; empty where nothing does."""

READABLE_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *ITK_SUFFIXES, *SLIDE_SUFFIXES)
"""Suffixes of the sources that are known by name; DICOM is known by content."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Suffixes by which a file calls itself DICOM."""

OUTPUT_ENDINGS = ("_mask", "_overlay", "_prob")
"""How the stems of our own results end; such files and folders are not taken for inputs of a folder."""


def stem(path: Path) -> str:
    """Return the name of a source without the suffixes of its format: `a.nii.gz` -> `a`, `1.2.840` -> `1.2.840`."""
    for suffix in sorted((*READABLE_SUFFIXES, *DICOM_SUFFIXES), key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def kind_of(path: Path) -> Kind:
    """Return what reads the file `path`.

    Raises:
        OSError, ReadError: it cannot be opened, or is a damaged TIFF.
    """
    return "dicom" if is_dicom(path) else kind_without_dicom(path)


def kind_without_dicom(path: Path) -> Kind:
    """Return what reads `path`, which is known to be no DICOM.

    Raises:
        OSError, ReadError: see `kind_of`.
    """
    name = path.name.lower()
    if is_slide(path):
        return "slide"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(ITK_SUFFIXES):
        return "itk"
    return "picture" if is_picture(path) else ""
