"""Conversion of a source to the tensor in display orientation, with the metadata for the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.io import meta_keys
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.grid_meta import GridMeta
from monai_tpseg.io.loaded import Source
from monai_tpseg.io.orientation import Plane, choose_plane, to_view, voxel_sizes
from monai_tpseg.io.safety import base_name
from monai_tpseg.parsing import json_of

__all__ = ["PlaneChoice", "files_of", "picture_as_seen", "source_of", "volume_as_seen"]

PlaneChoice = Literal["auto", "axial", "coronal", "sagittal", "stored"]


def picture_as_seen(values: torch.Tensor, source: Source, meta: dict[str, Any]) -> MetaTensor:
    """Return a picture with its metadata.

    Args:
        values: (C, H, W).
        source: the source as read.
        meta: metadata to complete.
    """
    shape = np.array(values.shape[1:])
    meta |= {
        meta_keys.KIND: "picture",
        meta_keys.SPATIAL_SHAPE: shape,
        meta_keys.SOURCE_SHAPE: shape,
        meta_keys.ORIGINAL_AFFINE: np.eye(4),
    }
    meta |= _files(source.files)
    return _with_meta(values, torch.eye(4, dtype=torch.float64), meta)


def volume_as_seen(values: torch.Tensor, source: Source, meta: dict[str, Any], choice: PlaneChoice) -> MetaTensor:
    """Return a volume in the orientation of a plane, with its metadata.

    Args:
        values: (C, x, y, z).
        source: the source as read, with an affine.
        meta: metadata to complete.
        choice: the plane, or `auto`.

    Raises:
        ReadError: `E_GEOMETRY`, irregular slices or frames of a cine are not in the plane requested.
    """
    assert source.affine is not None
    plane: Plane = choice if choice != "auto" else choose_plane(source.affine, values.shape[1:], source.stack_axis)
    turned = to_view(values, source.affine, plane)
    # index of the tensor -> index of the source
    step = np.round(np.linalg.inv(source.affine) @ np.asarray(turned.affine, dtype=np.float64))
    meta |= {
        meta_keys.KIND: "volume",
        meta_keys.PLANE: plane,
        meta_keys.SPATIAL_SHAPE: np.array(values.shape[1:]),
        meta_keys.ORIGINAL_AFFINE: source.affine,
    }
    meta |= _files(source.files[::-1] if step[2, 2] < 0 else source.files)
    if source.spaced:
        meta[meta_keys.SPACING] = voxel_sizes(turned.affine.numpy())
    if not source.stacked and not step[2, 2]:
        name = base_name(Path(str(meta[meta_keys.FILENAME])))
        raise ReadError("E_GEOMETRY", f"{name} is not a regular grid, so the {plane} plane cannot be shown.")
    if source.slice_affines is not None:
        meta[meta_keys.SLICE_AFFINES] = _turned(source.slice_affines, step)
    return _with_meta(turned.as_tensor(), turned.affine, meta)


def _with_meta(values: torch.Tensor, affine: torch.Tensor, meta: dict[str, Any]) -> MetaTensor:
    whole = meta | {meta_keys.LOADED_SHAPE: np.array(values.shape[1:]), meta_keys.CHANNEL_DIM: 0}
    if meta_keys.SPACING in meta:
        whole[meta_keys.LOADED_SPACING] = np.asarray(meta[meta_keys.SPACING])
    return MetaTensor(values, affine=affine, meta=GridMeta(whole))


def files_of(meta: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the files of a case: those of a DICOM series in the order of `meta.FILES`, otherwise the one file.

    Args:
        meta: metadata of the image from `LoadMedicalImage`.
    """
    if meta_keys.FILES in meta:
        return tuple(Path(name) for name in json_of(str(meta[meta_keys.FILES])))
    return (Path(str(meta[meta_keys.FILENAME])),)


def source_of(meta: Mapping[str, Any]) -> Path | tuple[Path, ...]:
    """Return the input of `LoadMedicalImage` for the same case: a file, a folder, or a list of files.

    Args:
        meta: metadata of the image from `LoadMedicalImage`.
    """
    path, files = Path(str(meta[meta_keys.FILENAME])), files_of(meta)
    return files if path in files and len(files) > 1 else path


def _files(files: tuple[Path, ...]) -> dict[str, str]:
    return {meta_keys.FILES: json.dumps([str(path) for path in files])} if files else {}


def _turned(affines: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affines of (x, y, 0) in the order of z -> affines of (row, column, 0) in the order of the last axis."""
    inside = step.copy()
    inside[2] = [0, 0, step[2, 2], 0]
    order = (step[2, 2] * np.arange(len(affines)) + step[2, 3]).astype(int)
    turned: NDArray[np.float64] = affines[order] @ inside
    return turned
