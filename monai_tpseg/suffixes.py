"""Suffixes of the files that are read and written: each list is here, or made of those that are here."""

from __future__ import annotations

__all__ = [
    "ANSWER_SUFFIXES",
    "DICOM_SUFFIXES",
    "DRAWN_SUFFIXES",
    "ITK_SUFFIXES",
    "MASK_SUFFIXES",
    "METAIMAGE_SUFFIXES",
    "NIFTI_SUFFIXES",
    "PICTURE_SUFFIXES",
    "READABLE_SUFFIXES",
    "SLIDE_SUFFIXES",
    "TIFF_SUFFIXES",
    "UNWRITTEN_SUFFIXES",
    "VOLUME_SUFFIXES",
]

TIFF_SUFFIXES = (".tif", ".tiff")

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", *TIFF_SUFFIXES, ".bmp")

NIFTI_SUFFIXES = (".nii", ".nii.gz")

METAIMAGE_SUFFIXES = (".mha", ".mhd")

ITK_SUFFIXES = (".nrrd", ".nhdr", *METAIMAGE_SUFFIXES)
"""Volumes that are read by way of SimpleITK."""

VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif")
"""Whole slides; pyramidal TIFF and DICOM are known by their content."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""By which a file calls itself DICOM; what is DICOM is known by its content."""

READABLE_SUFFIXES = (*PICTURE_SUFFIXES, *VOLUME_SUFFIXES, *SLIDE_SUFFIXES)
"""Of the sources that are known by name."""

MASK_SUFFIXES = {"picture": ".png", "volume": ".nii.gz", "dicom": ".dcm"}
"""Kind of source -> suffix of the file that its mask can be written into."""

UNWRITTEN_SUFFIXES = (
    *(suffix for suffix in (*PICTURE_SUFFIXES, *VOLUME_SUFFIXES) if suffix not in MASK_SUFFIXES.values()),
    ".gif",
    ".npy",
)
"""Of images that no mask is written into."""

DRAWN_SUFFIXES = (*reversed(NIFTI_SUFFIXES), ".nrrd", ".mha", ".png", *TIFF_SUFFIXES, ".dcm")
"""Of masks of other programs: one file each, without loss."""

ANSWER_SUFFIXES = (".nrrd", *reversed(NIFTI_SUFFIXES))
"""Of masks that a client of MONAI Label can ask for."""
