"""Numbers about the lesions of a mask: size, longest diameter, place, and what a person should know first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from monai_tpseg.transforms import meta as m

__all__ = ["MANY_LESIONS", "REVIEW_FLAGS", "UNCERTAIN", "Lesion", "flags_of", "lesions_csv", "measure_lesions"]

MANY_LESIONS = 20
"""More connected lesions than this are flagged: most masks of that kind are noise."""

UNCERTAIN = 0.65
"""A mask whose mean probability lies below this is flagged."""

REVIEW_FLAGS = frozenset({"repaired_values"})
"""Flags that make a case `review`: the input was not as it should be."""

_FEW = 64  # points whose distances are found sooner than their convex hull


@dataclass(frozen=True)
class Lesion:
    """One connected lesion; pixels and voxels that touch at a corner are connected.

    Attributes:
        lesion: 1, 2, ... by size, largest first.
        voxels: pixels of a picture, voxels of a volume.
        size: in `size_unit`.
        size_unit: `mm3` of a volume, `mm2` of a picture; `px` where the source has no millimetres.
        diameter: the longest distance between two points of the lesion, through the slices of a volume too.
        diameter_unit: `mm` or `px`.
        centroid_1, centroid_2, centroid_3: x, y, z or row, column, slice; empty where there is none.
        centroid_space: `ras_mm` (to the right, anterior, superior) or `pixel` (row, column[, slice], from 0).
        mean_probability: over the lesion, in [0, 1].
    """

    lesion: int
    voxels: int
    size: float
    size_unit: str
    diameter: float
    diameter_unit: str
    centroid_1: float
    centroid_2: float
    centroid_3: float | None
    centroid_space: str
    mean_probability: float


def measure_lesions(mask: NDArray[Any], prob: NDArray[Any], meta: Mapping[str, Any]) -> list[Lesion]:
    """Measure each connected lesion of a mask.

    Args:
        mask: (H, W) or (H, W, D) in {0, 1}, on the grid of the loaded image.
        prob: probabilities in [0, 1], of the same shape.
        meta: the meta of the image from `LoadMedicalImage`.

    Returns:
        largest first; an empty list for an empty mask.
    """
    labels, count = ndimage.label(mask > 0, structure=np.ones((3,) * mask.ndim))
    if not count:
        return []
    matrix, spaced = _millimetres(meta, mask.ndim)
    size_unit = f"mm{mask.ndim}" if spaced else "px"
    numbers = np.arange(1, count + 1)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    unit = float(abs(np.linalg.det(matrix)))
    means = ndimage.mean(prob, labels, numbers)
    centres = np.asarray(ndimage.center_of_mass(mask > 0, labels, numbers))
    boxes = ndimage.find_objects(labels)
    found = []
    for rank, n in enumerate(np.argsort(-voxels, kind="stable"), start=1):
        diameter = _diameter(labels[boxes[n]] == n + 1, matrix)
        *place, space = _place(centres[n], meta, spaced)
        found.append(
            Lesion(
                *(rank, int(voxels[n]), round(float(voxels[n]) * unit, 3), size_unit),
                *(round(diameter, 3), "mm" if spaced else "px"),
                *(*place, space, round(float(means[n]), 4)),
            )
        )
    return found


def flags_of(mask: NDArray[Any], lesions: list[Lesion], meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a person should know about a result, worst first.

    `repaired_values`, the source held NaN or infinite values; `empty`; `touches_border`, a lesion reaches the edge of
    the picture or of a slice; `many_lesions`; `uncertain`.

    Args:
        mask: (H, W) or (H, W, D) in {0, 1}.
        lesions: of `measure_lesions`.
        meta: the meta of the image from `LoadMedicalImage`.
    """
    voxels = sum(lesion.voxels for lesion in lesions)
    mean = sum(lesion.mean_probability * lesion.voxels for lesion in lesions) / max(voxels, 1)
    flags = {
        "repaired_values": int(meta.get(m.NON_FINITE, 0)) > 0,
        "empty": not lesions,
        "touches_border": bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()),
        "many_lesions": len(lesions) > MANY_LESIONS,
        "uncertain": bool(lesions) and mean < UNCERTAIN,
    }
    return tuple(name for name, raised in flags.items() if raised)


def lesions_csv(lesions: list[Lesion]) -> bytes:
    """Return the table of `lesions`, one line each below the names of the columns."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Lesion))
    table.writerows(astuple(lesion) for lesion in lesions)
    return text.getvalue().encode()


def _millimetres(meta: Mapping[str, Any], dims: int) -> tuple[NDArray[np.float64], bool]:
    """Return the matrix that takes steps along the axes to millimetres (or leaves them), and whether it does."""
    if m.SPACING not in meta:
        return np.eye(dims), False
    if str(meta[m.KIND]) == "volume":
        return np.asarray(meta[m.AFFINE], dtype=np.float64)[:3, :3], True
    return np.diag(np.asarray(meta[m.SPACING], dtype=np.float64)[:dims]), True


def _place(centre: NDArray[np.float64], meta: Mapping[str, Any], spaced: bool) -> tuple[Any, ...]:
    if spaced and len(centre) == 3:
        world = np.asarray(meta[m.AFFINE], dtype=np.float64) @ [*centre, 1.0]
        return *(round(float(value), 3) for value in world[:3]), "ras_mm"
    rounded: list[float | None] = [round(float(value), 3) for value in centre]
    return *rounded, *([None] * (3 - len(centre))), "pixel"


def _diameter(lesion: NDArray[np.bool_], matrix: NDArray[np.float64]) -> float:
    """The longest distance between two corners of the pixels or voxels: one pixel measures its diagonal."""
    order = np.argsort(lesion.shape, kind="stable")  # lines along the longest axis: the fewest ends
    turned, directions = lesion.transpose(order), matrix[:, order]
    length, ahead = turned.shape[-1], turned.ndim - 1
    lines = turned.reshape(-1, length)
    used = np.flatnonzero(lines.any(axis=1))
    ends = (lines[used].argmax(axis=1), length - lines[used][:, ::-1].argmax(axis=1))  # first, and one past the last
    start = np.stack(np.unravel_index(used, turned.shape[:-1]), axis=1)  # (lines, axes - 1)
    corners = [np.column_stack([start + shift, end]) for shift in product((0, 1), repeat=ahead) for end in ends]
    points = np.concatenate(corners) @ directions.T
    if len(points) > _FEW:
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max())
