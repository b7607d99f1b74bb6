"""Rows and summaries of cases whose values follow by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import Modality
from monai_tpseg.evaluation import CaseDetails
from monai_tpseg.evaluation.details import DETAILS, mean_over_tasks, summarise_details, tolerance_of
from monai_tpseg.handlers import LesionMetricsHandler
from monai_tpseg.io import meta_keys


def square(row: int, column: int, side: int = 4, size: int = 24) -> torch.Tensor:
    mask = torch.zeros(1, size, size)
    mask[:, row : row + side, column : column + side] = 1
    return mask


NONE = torch.zeros(1, 24, 24)


def test_millimetres_come_from_the_image_and_pixels_are_said_to_be_pixels() -> None:
    details = CaseDetails()
    meta = {meta_keys.SPACING: np.array([0.5, 0.25])}
    known = details.measure(square(4, 8), square(4, 4), "breast_lesion", meta=meta)
    assert (known["distance_unit"], known["size_unit"], known["tolerance"]) == ("mm", "mm2", 1.0)
    assert known["hd95"] == pytest.approx(1.0)  # four columns of 0.25 mm
    assert known["nsd"] == 1.0
    assert (known["size_label"], known["size_pred"]) == (2.0, 2.0)  # 16 x 0.125 mm2
    unknown = details.measure(square(4, 8), square(4, 4), "breast_lesion")
    assert (unknown["distance_unit"], unknown["size_unit"], unknown["tolerance"]) == ("px", "px", 3.0)
    assert unknown["hd95"] == pytest.approx(4.0)
    assert (unknown["lesions_label"], unknown["lesions_pred"]) == (1, 1)
    assert (unknown["ece"], unknown["found_0.1"], unknown["missed_0.1"]) == (None, 0, 1)


def test_volumes_are_measured_in_three_dimensions() -> None:
    label = torch.zeros(1, 10, 10, 6)
    label[:, 2:6, 2:6, 1:3] = 1
    pred = label.roll(1, dims=3)
    row = CaseDetails({"liver_lesion": "ct"}).measure(
        pred, label, "liver_lesion", meta={meta_keys.SPACING: torch.tensor([1.0, 1.0, 5.0])}
    )
    assert (row["hd95"], row["size_label"], row["size_unit"]) == (5.0, 160.0, "mm3")
    assert (row["lesions_pred"], row["found_0.1"], row["found_0.5"]) == (1, 1, 0)  # IoU is a third


def test_oblique_axes_make_a_voxel_smaller_than_its_edges() -> None:
    label = torch.zeros(1, 10, 10, 6)
    label[:, 2:6, 2:6, 1:3] = 1  # 32 voxels
    tilt = np.radians(30)
    steps = np.diag([1.0, 1.0, 1.0, 1.0])
    steps[:3, 2] = 0.0, 5 * np.sin(tilt), 5 * np.cos(tilt)  # slices 5 mm apart along a tilted gantry
    meta = {meta_keys.SPACING: torch.tensor([1.0, 1.0, 5.0]), meta_keys.AFFINE: torch.from_numpy(steps)}
    row = CaseDetails({"liver_lesion": "ct"}).measure(label, label, "liver_lesion", meta=meta)
    assert row["size_label"] == pytest.approx(32 * 5 * np.cos(tilt), abs=1e-3)


def test_irregular_slices_are_lesions_of_their_own() -> None:
    mask = torch.ones(1, 4, 4, 3)
    row = CaseDetails().measure(mask, mask, "lung_infection", meta={meta_keys.IRREGULAR: "gap"})
    assert (row["lesions_label"], row["distance_unit"]) == (3, "px")


def measured(*pairs: tuple[torch.Tensor, torch.Tensor], **more: Any) -> list[dict[str, Any]]:
    dice = [float(2 * (p * q).sum() / (p + q).sum()) if (p + q).any() else 1.0 for p, q in pairs]
    details = CaseDetails()
    return [{"dice": d, **details.measure(p, q, "skin_lesion", **more)} for d, (p, q) in zip(dice, pairs, strict=True)]


def test_empty_cases_stand_apart() -> None:
    three = square(0, 0) + square(8, 8) + square(16, 16)
    rows = measured((NONE, NONE), (three, NONE), (NONE, square(4, 4)), (square(4, 4), square(4, 4)))
    summary = summarise_details(rows)
    assert tuple(summary) == DETAILS
    assert [summary[key] for key in ("n_without_lesion", "n_both_empty", "n_missed")] == [2, 1, 1]
    assert summary["dice_without_empty"] == pytest.approx(1 / 3)  # 0, 0 and 1; the empty one does not count
    assert (summary["hd95_px"], summary["n_hd95_px"]) == (0.0, 1)  # both must hold a lesion
    assert summary["nsd_px"] == pytest.approx(1 / 3)
    assert summary["false_positives_without_lesion"] == 1.5  # 0 and 3
    assert summary["sensitivity_0.1"] == 0.5
    assert summary["precision_0.5"] == 0.25
    assert summary["f1_0.5"] == pytest.approx(2 / 6)
    assert (summary["size_error"], summary["size_bias"]) == (0.5, -0.5)
    assert (summary["hd95_mm"], summary["n_hd95_mm"], summary["nsd_mm"], summary["ece"]) == (None, 0, None, None)


def test_pixels_and_millimetres_are_never_averaged() -> None:
    meta = {meta_keys.SPACING: np.array([2.0, 2.0])}
    shifted = (square(4, 7), square(4, 4))
    summary = summarise_details([*measured(shifted), *measured(shifted, meta=meta)])
    assert (summary["hd95_px"], summary["hd95_mm"]) == (3.0, 6.0)


def test_mean_over_tasks_leaves_out_what_a_task_does_not_have() -> None:
    first = summarise_details(measured((square(4, 4), square(4, 4))))
    second = summarise_details(measured((NONE, NONE)))
    mean = mean_over_tasks([first, second])
    assert (mean["f1_0.5"], mean["n_both_empty"], mean["nsd_px"]) == (1.0, 1, 1.0)


def test_every_modality_has_a_tolerance() -> None:
    assert all(tolerance_of(modality, unit) > 0 for modality in Modality for unit in (True, False))


def test_files_of_the_handler_carry_the_details(tmp_path: Path) -> None:
    handler = LesionMetricsHandler(("skin_lesion", "wet_amd"), tmp_path, details=True)
    image = MetaTensor(torch.zeros(3, 24, 24), meta={meta_keys.SPACING: torch.tensor([0.1, 0.1])})
    prob = 0.9 * square(4, 4)
    case = {"image": image, "pred": square(4, 4), "prob": prob, "label": square(4, 4), "task": 0}
    handler.update([case, {**case, "pred": NONE, "label": NONE, "prob": NONE, "task": "wet_amd"}])
    assert handler.compute() == 1.0
    handler._write(tmp_path)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["skin_lesion"]["hd95_mm"] == 0.0
    assert summary["skin_lesion"]["ece"] == pytest.approx(0.1 * 16 / 576)
    assert summary["wet_amd"]["hd95_mm"] is None
    assert summary["mean"]["n_both_empty"] == 1
    with (tmp_path / "metrics_per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["nsd"] for row in rows] == ["1.0", ""]
    assert "calibration_bins" not in rows[0]
    handler.reset()
    handler.update([case])
    handler.compute()
    assert len(handler._rows) == 1
