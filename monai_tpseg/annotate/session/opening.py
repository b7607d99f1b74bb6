"""Reading of existing masks onto the grid of the open case: NIfTI, NRRD, PNG or DICOM segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.frames import source_frames
from monai_tpseg.io.dicom.object import Dataset, is_dicom, parsed_once, read_dataset
from monai_tpseg.io.grid_meta import GridMeta
from monai_tpseg.io.orientation import align
from monai_tpseg.io.source_grid import matrix
from monai_tpseg.transforms.load import LoadMedicalImage, match_label

__all__ = ["READ_MASK", "Mask", "mask_on_grid", "read_mask"]

READ_MASK = f"{__name__}:mask_on_grid"
"""`mask_on_grid` by name, for `monai_tpseg.subprocesses`."""

Mask = NDArray[np.bool_]


def read_mask(path: Path, image: MetaTensor) -> Mask:
    """Return a mask on the grid of a case, merging all labels and segments, without resampling.

    Args:
        path: file that `LoadMedicalImage` reads as a label, or a DICOM segmentation of the case.
        image: (3, H, W) or (3, H, W, D), the case from `LoadMedicalImage`.

    Returns:
        (H, W, D) bool, D = 1 for a picture.

    Raises:
        ReadError: the file cannot be read, or is not on the grid of the case.
        SessionError: the DICOM segmentation refers to another source.
    """
    if is_dicom(path) and read_dataset(path, pixels=False).get("Modality") == "SEG":
        mask = _segmentation(path, image)
    else:
        mask = match_label(LoadMedicalImage("label")(path), image)[0].numpy() > 0
    return mask if mask.ndim == 3 else mask[..., None]


def mask_on_grid(path: Path, shape: tuple[int, ...], meta: dict[str, Any], headers: Mapping[Path, Dataset]) -> Mask:
    """Return the result of `read_mask` for a case whose pixels are in another process.

    Args:
        path: see `read_mask`.
        shape: shape of the case from `LoadMedicalImage`.
        meta: metadata of the case from `LoadMedicalImage`.
        headers: headers of its DICOM files, without pixels, if known.

    Raises:
        ReadError, SessionError: see `read_mask`.
    """
    with parsed_once(headers):
        return read_mask(path, MetaTensor(torch.zeros(1).expand(shape), meta=GridMeta(meta)))


def _segmentation(path: Path, image: MetaTensor) -> Mask:
    if str(image.meta[meta_keys.FORMAT]) != "dicom":
        raise SessionError(
            "A DICOM segmentation refers to DICOM slices, and the case is not DICOM; give its mask as a file."
        )
    planes = _planes(path, image)
    if str(image.meta[meta_keys.KIND]) == "picture":
        return cast(Mask, planes[0])
    grid = planes.transpose(2, 1, 0)  # (frames, rows, columns) -> (x, y, z): x along columns, y along rows
    affines = matrix(image.meta[meta_keys.ORIGINAL_AFFINE]), matrix(image.meta[meta_keys.AFFINE])
    return align(grid, *affines, tuple(image.shape[1:])) > 0


def _planes(path: Path, image: MetaTensor) -> Mask:
    """Return (frames, rows, columns) in the order of the source; slices without a frame are empty."""
    frames = source_frames(image.meta)
    how: dict[str, Any] = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    uids = [frame.header.SOPInstanceUID for frame in frames]
    try:
        found = highdicom.seg.segread(path)
        if not {str(sop) for _, _, sop in found.get_source_image_uids()} & {*uids}:
            raise ValueError("it refers to no slice of the case")
        if frames[0].number is not None:
            segments = found.get_pixels_by_source_frame(uids[0], [int(frame.number or 1) for frame in frames], **how)
        else:
            segments = found.get_pixels_by_source_instance(uids, **how)
    except Exception as error:  # highdicom may raise any exception, depending on pydicom and the file
        raise SessionError(
            "The DICOM segmentation cannot be read or belongs to another case; give another one."
        ) from error
    planes = np.max(segments, axis=-1, initial=0) > 0
    size = tuple(int(n) for n in (frames[0].header.Rows, frames[0].header.Columns))
    if planes.shape[1:] != size:
        raise SessionError(
            f"The DICOM segmentation has different slices from the case ({planes.shape[1:]} and {size})."
        )
    return cast(Mask, planes)
