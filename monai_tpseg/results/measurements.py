"""Measurements of the lesions of a mask: size, longest diameter, position, and flags for review."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, fields, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from monai_tpseg.catalogue import Modality
from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.tracking import tracking_id
from monai_tpseg.io.orientation import voxel_sizes
from monai_tpseg.io.source_grid import is_irregular, matrix
from monai_tpseg.results.codes import Outcome, Status
from monai_tpseg.trust.record import Contours

__all__ = [
    "FLAGS",
    "MANY_LESIONS",
    "REVIEW_FLAGS",
    "UNCERTAIN",
    "Lesion",
    "fits_modality",
    "flags_of",
    "is_uncertain",
    "lesions_csv",
    "measure_lesions",
    "outcome_with",
    "with_range",
]

MANY_LESIONS = 20
"""More connected lesions than this are flagged: most masks of that kind are noise."""

UNCERTAIN = 0.65
"""A mask whose mean probability lies below this is flagged."""

FLAGS: dict[str, str] = {
    "slice_gap": "slices are unevenly spaced; each was segmented and measured separately",
    "gantry_tilt": "slices are stacked obliquely; each was segmented and measured separately",
    "other_modality": "the DICOM modality of the source is not one for which the task was trained",
    "not_this_task": "the picture is unlike the training pictures of the task; the mask may show something else",
    "maybe_panels": "the object may be a picture of a screen or of several slices: check its content",
    "doubtful_size": "the header of a volume gives two sizes or orientations, or one that programs read "
    "differently; a NIfTI's sform, or what ITK reads, was used",
    "doubtful_scale": "some slices lack the rescale slope or intercept of the others and were read as stored, "
    "or the header gives a unit other than HU for CT",
    "repaired_values": "the source contained NaN or infinite values, which were replaced",
    "doubtful_colour": "header and codestream of a JPEG give different colour spaces: programs may show it differently",
    "enlarged": "the slide is coarser than the training pictures: details are missing",
    "no_tissue": "no window of the slide contains tissue",
    "no_seg": "the source is DICOM, but a SEG or SR could not be written; `detail` of result.json gives the reason",
    "empty": "no lesion was found",
    "touches_border": "a lesion reaches the edge of the picture or of a slice",
    "many_lesions": f"more than {MANY_LESIONS} lesions, usually a sign of noise",
    "uncertain": f"the mean probability of the mask is below {UNCERTAIN}",
}
"""What a person should know about a result -> what it means; worst first."""

REVIEW_FLAGS = frozenset(
    {
        "slice_gap",
        "gantry_tilt",
        "other_modality",
        "not_this_task",
        "maybe_panels",
        "doubtful_size",
        "doubtful_scale",
        "repaired_values",
        "doubtful_colour",
        "no_seg",
    }
)
"""Flags that make a case `review`: the input was not as it should be."""

_IRREGULAR = {"gap": "slice_gap", "tilt": "gantry_tilt"}
_SAYS_NOTHING = frozenset({"", "OT"})  # DICOM's "other", used by converted pictures
_FEW = 64  # number of points for which all distances are faster than the convex hull


@dataclass(frozen=True)
class Lesion:
    """One connected lesion; pixels and voxels that touch at a corner are connected.

    Slices of an irregular series are measured separately: no lesion extends over several slices.

    Attributes:
        lesion: 1, 2, ... by size, largest first.
        tracking_id: identifier in the DICOM segmentation, shared by lesions without a segment of their own; or the
            name given by a person.
        voxels: number of pixels of a picture or slice, or of voxels of a volume.
        size: size in `size_unit`.
        size_unit: `mm3` for a volume, `mm2` for a picture or slice; `px` if the spacing is unknown.
        diameter: longest distance between two points of the lesion, in a volume across slices.
        diameter_unit: `mm` or `px`.
        right_mm, anterior_mm, superior_mm: centroid in patient coordinates; empty if the source has none.
        row, column, slice: centroid on the loaded image, from 0; no slice in a picture.
        mean_probability: mean over the lesion, in [0, 1].
        size_inner, size_outer: size within the inner and the outer contour, in `size_unit`; None without contours.
    """

    lesion: int
    tracking_id: str
    voxels: int
    size: float
    size_unit: str
    diameter: float
    diameter_unit: str
    right_mm: float | None
    anterior_mm: float | None
    superior_mm: float | None
    row: float
    column: float
    slice: float | None
    mean_probability: float
    size_inner: float | None = None
    size_outer: float | None = None


def with_range(
    lesions: list[Lesion], numbered: NDArray[np.int32], contours: Contours | None, meta: Mapping[str, Any]
) -> list[Lesion]:
    """Return the lesions with their sizes within both contours.

    A pixel of the outer contour is assigned to the nearest lesion, in millimetres, of its connected part; parts without
    a lesion are only included in the totals of `result.json`.

    Args:
        lesions: lesions from `measure_lesions`.
        numbered: numbered lesions that were measured.
        contours: inner and outer contour; None leaves the lesions unchanged.
        meta: metadata of the image from `LoadMedicalImage`.
    """
    if contours is None or not lesions:
        return lesions
    inner, outer = (mask[0].numpy() > 0 for mask in (contours.inner, contours.outer))
    parts, _ = ndimage.label(outer, structure=np.ones((3,) * outer.ndim))
    within = np.bincount(numbered[inner], minlength=len(lesions) + 1)
    around = np.zeros(len(lesions) + 1, np.int64)
    steps = np.linalg.norm(_Space.of(meta, outer.ndim, 0).matrix, axis=0)
    edges = [*steps, *[1.0] * (outer.ndim - len(steps))]  # slices without a regular distance: one step each
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[box] == part
        own = np.where(inside, numbered[box], 0)
        if own.any():
            nearest = ndimage.distance_transform_edt(own == 0, edges, return_distances=False, return_indices=True)
            around += np.bincount(own[tuple(nearest)][inside], minlength=len(around))
    counts = within, around
    sizes = [[float(count[one.lesion]) * one.size / one.voxels for count in counts] for one in lesions]
    return [
        replace(one, size_inner=round(low, 3), size_outer=round(high, 3))
        for one, (low, high) in zip(lesions, sizes, strict=True)
    ]


def measure_lesions(
    lesions: NDArray[np.int32],
    prob: NDArray[Any],
    meta: Mapping[str, Any],
    task: str,
    name: str,
    names: Mapping[int, str] = MappingProxyType({}),
) -> list[Lesion]:
    """Measure the lesions of a case.

    Args:
        lesions: lesions numbered by `monai_tpseg.segment.find_lesions`.
        prob: probabilities in [0, 1], of the same shape.
        meta: metadata of the image from `LoadMedicalImage`.
        task: name of the task.
        name: name of the case, for the tracking ids.
        names: names given to lesions by a person, by number; they replace tracking ids.

    Returns:
        the lesions in the order of their numbers.
    """
    boxes = enumerate(ndimage.find_objects(lesions), start=1)
    tracked = ((n, box, names.get(n) or tracking_id(name, task, n)) for n, box in boxes)
    return [_measured(n, lesions[box] == n, box, prob[box], meta, called) for n, box, called in tracked]


def outcome_with(flags: Collection[str], lesions: int, detail: str = "") -> Outcome:
    """Return the outcome of a segmented case.

    Args:
        flags: names in `FLAGS`, in any order.
        lesions: number of lesions.
        detail: reason for `no_seg`.
    """
    status = Status.REVIEW if REVIEW_FLAGS & {*flags} else Status.OK if lesions else Status.OK_EMPTY
    return Outcome(status, detail=detail, flags=tuple(flag for flag in FLAGS if flag in flags))


def fits_modality(recorded: str, modality: Modality) -> bool:
    """Return whether a source may be of the modality of a task.

    Args:
        recorded: (0008,0060) of a DICOM object, "" if unknown.
        modality: modality of the task.
    """
    return recorded in _SAYS_NOTHING | modality.dicom


def flags_of(mask: NDArray[Any], lesions: list[Lesion], meta: Mapping[str, Any], modality: Modality) -> tuple[str, ...]:
    """Return the `FLAGS` of a result, most severe first; `no_seg` is set by the writer.

    Args:
        mask: (H, W) or (H, W, D) in {0, 1}.
        lesions: lesions from `measure_lesions`.
        meta: metadata of the image from `LoadMedicalImage`.
        modality: modality of the task.
    """
    raised = {
        **{flag: str(meta.get(meta_keys.IRREGULAR)) == why for why, flag in _IRREGULAR.items()},
        "other_modality": not fits_modality(str(meta.get(meta_keys.MODALITY, "")), modality),
        "repaired_values": int(meta.get(meta_keys.NON_FINITE, 0)) > 0,
        "maybe_panels": meta_keys.PANELS_DOUBTFUL in meta,
        "doubtful_size": meta_keys.GEOMETRY_DOUBTFUL in meta,
        "doubtful_scale": meta_keys.SCALE_DOUBTFUL in meta,
        "doubtful_colour": meta_keys.COLOUR_DOUBTFUL in meta,
        "empty": not lesions,
        "touches_border": bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()),
        "many_lesions": len(lesions) > MANY_LESIONS,
        "uncertain": is_uncertain(lesions),
    }
    return tuple(name for name in FLAGS if raised.get(name))


def is_uncertain(lesions: Collection[Lesion]) -> bool:
    """Return whether the mean probability of a mask is below `UNCERTAIN`; False for an empty mask."""
    voxels = sum(lesion.voxels for lesion in lesions)
    return bool(voxels) and sum(lesion.mean_probability * lesion.voxels for lesion in lesions) / voxels < UNCERTAIN


def lesions_csv(lesions: list[Lesion]) -> bytes:
    """Return the table of `lesions`, one line each after the header line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Lesion))
    table.writerows(astuple(lesion) for lesion in lesions)
    return text.getvalue().encode()


def _measured(
    number: int,
    lesion: NDArray[np.bool_],
    box: tuple[slice, ...],
    prob: NDArray[Any],
    meta: Mapping[str, Any],
    tracked: str,
) -> Lesion:
    """Measure one lesion, which fills `box`."""
    space = _Space.of(meta, lesion.ndim, box[-1].start)
    voxels = int(lesion.sum())
    centre = np.argwhere(lesion).mean(axis=0) + [part.start for part in box]
    right, anterior, superior = space.patient(centre)
    row, column, *more = (round(float(value), 3) for value in centre)
    return Lesion(
        lesion=number,
        tracking_id=tracked,
        voxels=voxels,
        size=round(voxels * float(abs(np.linalg.det(space.matrix))), 3),
        size_unit=f"mm{space.dims}" if space.spaced else "px",
        diameter=round(_diameter(lesion[..., 0] if space.dims < lesion.ndim else lesion, space.matrix), 3),
        diameter_unit="mm" if space.spaced else "px",
        right_mm=right,
        anterior_mm=anterior,
        superior_mm=superior,
        row=row,
        column=column,
        slice=more[0] if more else None,
        mean_probability=round(float(prob[lesion].mean(dtype=np.float64)), 4),
    )


@dataclass(frozen=True)
class _Space:
    """Conversion from pixels or voxels to millimetres.

    Attributes:
        matrix: (2, 2) or (3, 3): a step along each axis -> mm, or the step itself.
        spaced: whether the matrix gives mm.
        affine: (4, 4) index -> RAS mm; None without a position in the patient.
        flat: whether the affine applies only to the slice at its origin.
    """

    matrix: NDArray[np.float64]
    spaced: bool
    affine: NDArray[np.float64] | None = None
    flat: bool = False

    @property
    def dims(self) -> int:
        return len(self.matrix)

    @classmethod
    def of(cls, meta: Mapping[str, Any], dims: int, slice_number: int) -> _Space:
        if is_irregular(meta):
            affine = matrix(meta[meta_keys.SLICE_AFFINES])[slice_number]
            return cls(np.diag(voxel_sizes(affine)[:2]), True, affine, flat=True)
        if meta_keys.SPACING not in meta:
            return cls(np.eye(dims), False)
        if str(meta[meta_keys.KIND]) == "volume":
            affine = matrix(meta[meta_keys.AFFINE])
            return cls(affine[:3, :3], True, affine)
        return cls(np.diag(np.asarray(meta[meta_keys.SPACING], dtype=np.float64)[:dims]), True)

    def patient(self, centre: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
        """The position of a point in the patient: right, anterior, superior."""
        if self.affine is None:
            return None, None, None
        world = self.affine @ [*centre[:2], 0.0 if self.flat else centre[2], 1.0]
        right, anterior, superior = (round(float(value), 3) for value in world[:3])
        return right, anterior, superior


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
