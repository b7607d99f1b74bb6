"""Boundary, lesions, calibration and size of every case, and what they come to for a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.evaluation.calibration import calibration_bins, calibration_error
from monai_tpseg.evaluation.lesion_wise import match_lesions
from monai_tpseg.evaluation.surface import surface_measures
from monai_tpseg.io import meta_keys
from monai_tpseg.io.source_grid import is_irregular
from monai_tpseg.lesions import label_lesions

__all__ = ["DETAILS", "FOUND_AT", "CaseDetails", "summarise_details"]

FOUND_AT = (0.1, 0.5)
"""IoU above which a lesion counts as found: touched at the right place, and outlined well."""

_UNITS = ("mm", "px")
_RATES = tuple(f"{name}_{least}" for least in FOUND_AT for name in ("sensitivity", "precision", "f1"))
DETAILS = (
    *("n_without_lesion", "n_both_empty", "n_missed", "dice_without_empty"),
    *(f"{name}_{unit}" for unit in _UNITS for name in ("hd95", "n_hd95", "nsd")),
    *_RATES,
    *("false_positives_without_lesion", "size_error", "size_bias", "ece"),
)
"""Keys of `summarise_details`, in order."""
_BINS = "calibration_bins"
_COUNTS = ("found", "false", "missed")

Row = dict[str, Any]


class CaseDetails:
    """Measures cases, one at a time.

    Args:
        modalities: name -> modality of tasks beyond the catalogue, as weights describe them; for the tolerance.
    """

    def __init__(self, modalities: Mapping[str, str] = MappingProxyType({})) -> None:
        self.modalities = dict(modalities)

    def measure(
        self, pred: Tensor, label: Tensor, task: str, prob: Tensor | None = None, meta: Mapping[str, Any] | None = None
    ) -> Row:
        """Return what is known of a case beyond the counts of its pixels; None where a measure is not defined.

        Args:
            pred: mask (1, H, W) or (1, H, W, D) in {0, 1}.
            label: likewise.
            task: name of the task.
            prob: the probabilities that the mask was cut from, of the same shape.
            meta: metadata of the image with the grid of the masks; its spacing converts pixels to mm.

        Raises:
            ValueError: the shapes differ, the task is unknown, or a probability is out of range.
        """
        meta, modality = meta or {}, get_task(task, self.modalities).modality
        masks = [torch.as_tensor(mask).as_subclass(Tensor)[0].cpu() for mask in (pred, label)]
        spacing = _spacing(meta, masks[0].ndim)
        surface = surface_measures(masks[0], masks[1], spacing, tolerance_of(modality, spacing is not None))
        bins = None if prob is None else calibration_bins(prob, label)
        return {
            "distance_unit": "px" if spacing is None else "mm",
            "hd95": surface.hd95,
            "nsd": surface.nsd,
            "tolerance": tolerance_of(modality, spacing is not None),
            **_sizes(masks, spacing, meta),
            **_lesions(masks, meta),
            "ece": None if bins is None else calibration_error(bins),
            _BINS: None if bins is None else bins.tolist(),
        }


def tolerance_of(modality: Modality, in_mm: bool) -> float:
    """Return the tolerance of the surface Dice, in millimetres or pixels."""
    return modality.tolerance_mm if in_mm else modality.tolerance_px


def without_bins(row: Row) -> Row:
    """Return a row as a table shows it."""
    return {key: value for key, value in row.items() if key != _BINS}


def summarise_details(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the measures of the cases of one task: `DETAILS`, None where no case defines one.

    Args:
        rows: rows from `CaseDetails.measure`, each with `dice`.
    """
    without = [row for row in rows if not row["lesions_label"]]
    both = [row for row in without if not row["lesions_pred"]]
    sized = [row["size_pred"] / row["size_label"] - 1 for row in rows if row["size_label"]]
    known = [np.asarray(row[_BINS]) for row in rows if row[_BINS] is not None]
    summary: dict[str, float | None] = {
        "n_without_lesion": len(without),
        "n_both_empty": len(both),
        "n_missed": sum(row["lesions_label"] > 0 and not row["lesions_pred"] for row in rows),
        "dice_without_empty": _mean(row["dice"] for row in rows if row["lesions_label"] or row["lesions_pred"]),
        "false_positives_without_lesion": _mean(row["lesions_pred"] for row in without),
        "size_error": _mean(abs(gap) for gap in sized),
        "size_bias": _mean(sized),
        "ece": calibration_error(sum(known[1:], known[0])) if known else None,
    }
    for unit in _UNITS:
        own = [row for row in rows if row["distance_unit"] == unit]
        summary[f"hd95_{unit}"] = _mean(row["hd95"] for row in own)
        summary[f"n_hd95_{unit}"] = sum(row["hd95"] is not None for row in own)
        summary[f"nsd_{unit}"] = _mean(row["nsd"] for row in own)
    for least in FOUND_AT:
        summary |= _rates(rows, least)
    return {key: summary[key] for key in DETAILS}


def mean_over_tasks(summaries: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each measure over the tasks that have it; numbers of cases are added up."""
    whole: dict[str, Callable[[Any], float | None]] = {key: sum if key.startswith("n_") else _mean for key in DETAILS}
    return {key: make([one[key] for one in summaries]) for key, make in whole.items()}


def _rates(rows: Sequence[Row], least: float) -> dict[str, float | None]:
    """Sensitivity, precision and F1 over all lesions of a task."""
    found, false, missed = (sum(row[f"{name}_{least}"] for row in rows) for name in _COUNTS)
    return {
        f"sensitivity_{least}": _share(found, found + missed),
        f"precision_{least}": _share(found, found + false),
        f"f1_{least}": _share(2 * found, 2 * found + false + missed),
    }


def _sizes(masks: Sequence[Tensor], spacing: Sequence[float] | None, meta: Mapping[str, Any]) -> Row:
    one = 1.0 if spacing is None else float(np.prod(spacing)) * _skew(meta, len(spacing))
    pred, label = (round(int((mask > 0).sum()) * one, 3) for mask in masks)
    unit = "px" if spacing is None else f"mm{len(spacing)}"
    return {"size_label": label, "size_pred": pred, "size_unit": unit}


def _lesions(masks: Sequence[Tensor], meta: Mapping[str, Any]) -> Row:
    numbered: list[NDArray[np.int32]] = [
        label_lesions(mask.numpy(), across_slices=not is_irregular(meta)) for mask in masks
    ]
    pred, label = numbered
    row: Row = {"lesions_label": int(label.max(initial=0)), "lesions_pred": int(pred.max(initial=0))}
    for least in FOUND_AT:
        counts = match_lesions(pred, label, least)
        row |= {f"{name}_{least}": value for name, value in zip(_COUNTS, counts, strict=True)}
    return row


def _spacing(meta: Mapping[str, Any], axes: int) -> list[float] | None:
    if meta_keys.SPACING not in meta:
        return None
    steps = np.asarray(meta[meta_keys.SPACING], dtype=np.float64).ravel()[:axes]
    return [float(step) for step in steps] if len(steps) == axes else None


def _skew(meta: Mapping[str, Any], axes: int) -> float:
    """The volume of a voxel as a share of the product of its edges: 1 unless the axes of a volume are oblique."""
    if axes < 3 or meta_keys.AFFINE not in meta:
        return 1.0
    steps = np.asarray(meta[meta_keys.AFFINE], dtype=np.float64)[:3, :3]
    return float(abs(np.linalg.det(steps / np.linalg.norm(steps, axis=0))))


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known) / len(known)) if known else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
