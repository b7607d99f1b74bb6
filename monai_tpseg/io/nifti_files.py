"""NIfTI files with the exact geometry of their source."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_tpseg.files import complete
from monai_tpseg.io import meta_keys
from monai_tpseg.io.safety import quiet_libraries
from monai_tpseg.io.source_grid import matrix, slice_affines, slice_order

__all__ = ["save_nifti", "save_slices"]

# fields with the geometry of a NIfTI; the rest of the header (description, intent, scaling) does not apply to a mask
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def save_nifti(array: NDArray[Any], meta: Mapping[str, Any], path: Path) -> None:
    """Write an array on the source grid; for a NIfTI source, the geometry of its header is copied.

    Args:
        array: array of shape `source_shape`.
        meta: metadata of the image from `LoadMedicalImage`.
        path: output file.
    """
    with complete(path) as file, quiet_libraries():  # nibabel reports repairs of the source's header on the terminal
        if meta_keys.NIFTI_HEADER in meta:
            nib.save(_like_source(array, meta), file)
        else:
            nib.save(_placed(array, meta[meta_keys.ORIGINAL_AFFINE], spaced=meta_keys.SPACING in meta), file)


def save_slices(array: NDArray[Any], meta: Mapping[str, Any], folder: Path) -> None:
    """Write the slices of an irregular source as single files, each with its position.

    They are called `slice_0001.nii.gz` and so on, in display order.

    Args:
        array: (x, y, D), in the order of the source.
        meta: metadata of the image from `LoadMedicalImage`.
        folder: output folder, created or replaced as a whole.
    """
    with complete(folder) as new:
        new.mkdir()
        affines = slice_affines(meta)
        for number, n in enumerate(slice_order(meta), start=1):
            nib.save(_placed(array[:, :, n : n + 1], affines[n]), new / f"slice_{number:04d}.nii.gz")
        shutil.rmtree(folder, ignore_errors=True)


def _placed(array: NDArray[Any], affine: Any, spaced: bool = True) -> Any:
    image = nib.Nifti1Image(array, matrix(affine))
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm" if spaced else "unknown")
    return image


def _like_source(array: NDArray[Any], meta: Mapping[str, Any]) -> Any:
    """The geometry of the source header bit for bit, so that every reader sees the same affine."""
    block = np.asarray(meta[meta_keys.NIFTI_HEADER], dtype=np.uint8).tobytes()
    first = len(block) == nib.Nifti1Header.sizeof_hdr
    header_class, image_class = (nib.Nifti1Header, nib.Nifti1Image) if first else (nib.Nifti2Header, nib.Nifti2Image)
    source, header = header_class(block, endianness="<", check=False), header_class()
    for name in _GEOMETRY:
        header[name] = source[name]
    image = image_class(array, None, header=header, dtype=array.dtype)
    image.header["pixdim"] = source["pixdim"]  # made positive by nibabel, while ITK respects the sign
    return image
