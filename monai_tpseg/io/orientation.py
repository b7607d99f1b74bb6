"""Conversion from file axes to the radiological view, and exactly back to the source grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from numpy.typing import NDArray

__all__ = [
    "LPS_TO_RAS",
    "PLANES",
    "RAS_TO_LPS",
    "GridError",
    "Plane",
    "align",
    "choose_plane",
    "to_view",
    "voxel_sizes",
]

Plane = Literal["axial", "coronal", "sagittal", "stored"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""(4, 4): DICOM and ITK use left, posterior, superior (LPS), NIfTI and this package right, anterior, superior (RAS)."""

RAS_TO_LPS = LPS_TO_RAS
"""Its own inverse."""

PLANES: dict[str, str] = {"sagittal": "IPL", "coronal": "ILP", "axial": "PLS"}
"""Plane -> directions of rows, columns and slices; ordered by the patient axis (R, A, S) normal to the slices."""

_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_COARSER = 1.5  # an axis is the slice axis if its spacing is this many times the next coarsest
_TOLERANCE = 0.5  # tolerance of a corner's distance from the other grid, voxels


class GridError(ValueError):
    """Two arrays are not on the same grid."""


def voxel_sizes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the three voxel edge lengths of a (4, 4) `affine` in millimetres."""
    sizes: NDArray[np.float64] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return sizes


def choose_plane(affine: NDArray[np.float64], shape: Sequence[int], stack_axis: int | None = None) -> Plane:
    """Return the plane in which a volume is shown.

    The slice axis is the stacking direction of the acquisition if known, otherwise the only axis of length 1,
    otherwise the axis that is at least 1.5 times coarser than both others; a volume without such an axis is axial.

    Args:
        affine: (4, 4) index -> RAS millimetres.
        shape: (x, y, z).
        stack_axis: the stacking direction, 0 to 2.
    """
    sizes = voxel_sizes(affine)
    coarse = int(np.argmax(sizes))
    thin = [axis for axis, length in enumerate(shape) if length == 1]
    if stack_axis is not None:
        axis = stack_axis
    elif len(thin) == 1:
        axis = thin[0]
    elif sizes[coarse] >= _COARSER * np.delete(sizes, coarse).max() * (1 - 1e-6):
        axis = coarse
    else:
        return "axial"
    patient_axis = int(nib.io_orientation(affine)[axis, 0])
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return planes[patient_axis]


def to_view(volume: torch.Tensor, affine: NDArray[np.float64], plane: Plane) -> MetaTensor:
    """Reorient `volume` so that rows and columns are those of `plane` and the slices come last.

    Args:
        volume: (C, x, y, z).
        affine: (4, 4) index -> RAS millimetres.
        plane: `stored` makes y the rows, x the columns and z the slices, without a flip.

    Returns:
        (C, H, W, D) with its own affine; axes are only permuted and flipped.
    """
    if plane == "stored":
        x, y, z = nib.aff2axcodes(affine)
        axcodes = y + x + z
    else:
        axcodes = PLANES[plane]
    turn = Orientation(axcodes=axcodes, labels=_LABELS)
    with turn.trace_transform(False):  # the view is the base grid: nothing is inverted until a mask is written
        turned = turn(MetaTensor(volume, affine=torch.from_numpy(affine)))
    return MetaTensor(turned.as_tensor().contiguous(), affine=turned.affine)


def align(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    target_affine: NDArray[np.float64],
    target_shape: Sequence[int],
) -> NDArray[Any]:
    """Permute and flip axes so that `array` is on the target grid, without resampling.

    Args:
        array: (n0, n1, n2).
        affine: (4, 4) index of `array` -> RAS millimetres.
        target_affine: (4, 4) index of the target -> RAS millimetres.
        target_shape: the target's three lengths.

    Raises:
        GridError: the grids differ by more than a permutation or a flip of axes; the message states the difference.
    """
    shape = array.shape
    # index of the target <- index of the array: a signed permutation if both are on one grid
    step = np.linalg.solve(target_affine, affine)
    turn = np.round(step[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        raise GridError(f"voxel directions or sizes differ ({_sizes(affine)} and {_sizes(target_affine)} mm)")
    order = [int(np.flatnonzero(row)[0]) for row in turn]  # target axis -> axis of the array
    if [shape[axis] for axis in order] != list(target_shape):
        raise GridError(f"shapes differ ({_times(shape[axis] for axis in order)} and {_times(target_shape)} voxels)")
    flipped = [bool(row.sum() < 0) for row in turn]
    expected = np.array([length - 1 if flip else 0 for length, flip in zip(target_shape, flipped, strict=True)])
    ends = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1)
    off = np.abs((step[:3, :3] - turn) @ ends + (step[:3, 3] - expected)[:, None]).max()
    if off > _TOLERANCE:
        raise GridError(f"the grids are {off:.1f} voxels apart")
    turned = array.transpose(order)
    return np.ascontiguousarray(np.flip(turned, tuple(axis for axis, flip in enumerate(flipped) if flip)))


def _times(shape: Iterable[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _sizes(affine: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.3g}" for size in voxel_sizes(affine))
