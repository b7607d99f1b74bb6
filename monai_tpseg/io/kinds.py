"""The format of a file, by its content, or by its suffix if the content is inconclusive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from monai_tpseg.io.dicom.object import is_dicom
from monai_tpseg.io.pictures import is_picture
from monai_tpseg.io.slide_detection import is_slide
from monai_tpseg.suffixes import DICOM_SUFFIXES, ITK_SUFFIXES, NIFTI_SUFFIXES, READABLE_SUFFIXES

__all__ = ["MASK_ENDING", "OUTPUT_ENDINGS", "Kind", "kind_of", "kind_without_dicom", "stem"]

Kind = Literal["dicom", "slide", "nifti", "itk", "picture", ""]
"""Format of a file; empty if it is unsupported."""

OUTPUT_ENDINGS = ("_mask", "_overlay", "_prob")
"""Endings of the stems of this package's results; such files and folders are not inputs."""

MASK_ENDING = re.compile(r"[-_ ](?:mask|label|seg|segmentation|gt|groundtruth|annotation)$", re.IGNORECASE)
"""Common endings of the stem of a mask beside its picture, `a_mask.png` beside `a.png`."""


def stem(path: Path) -> str:
    """Return the name of a source without the suffixes of its format: `a.nii.gz` -> `a`, `1.2.840` -> `1.2.840`."""
    for suffix in sorted((*READABLE_SUFFIXES, *DICOM_SUFFIXES), key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def kind_of(path: Path) -> Kind:
    """Return the format of the file `path`.

    Raises:
        OSError, ReadError: the file cannot be opened, or is a damaged TIFF.
    """
    return "dicom" if is_dicom(path) else kind_without_dicom(path)


def kind_without_dicom(path: Path) -> Kind:
    """Return the format of `path`, which is known not to be DICOM.

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
