"""Boundary and lesions of every row and task, from the summaries that the evaluations leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_tpseg.metrics import MEAN

__all__ = ["details_cells", "has_details"]

_UNITS = ("mm", "px")
Values = Sequence[Mapping[str, Any]]


def has_details(results: Mapping[str, Any], row: str | None = None) -> bool:
    """Say whether a run of the results, or of one row, has measured more than Dice and IoU."""
    return any(_measured(run) for run in results["runs"] if row in (None, run["row"]))


def details_cells(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], label: Callable[[Any], str]
) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a line for every task of every row and for their mean.

    Args:
        results: see docs/experiments.md.
        rows: rows of the results to show.
        label: returns the name of a row.
    """
    header = ["row", "task", "images", "without lesion", "both empty", "Dice without empty", "HD95", "NSD"]
    header += ["sensitivity 0.1", "precision 0.1", "F1 0.1", "F1 0.5", "false positives", "size error", "ECE"]
    lines = []
    for row in rows:
        found = [run["metrics"] for run in results["runs"] if run["row"] == row["id"] and _measured(run)]
        tasks = [task for task in results["tasks"] if any(task in metrics for metrics in found)]
        whole = [MEAN] if any(len(metrics) > 2 for metrics in found) else []  # of one task the mean says nothing new
        for task in [*tasks, *whole]:
            lines.append([label(row), task, *_cells([metrics[task] for metrics in found if task in metrics])])
    return header, lines


def _measured(run: Mapping[str, Any]) -> bool:
    return any("f1_0.5" in values for values in run["metrics"].values())


def _cells(values: Values) -> list[str]:
    """The cells of one task, or of the mean; seeds are averaged."""
    counts = [f"{values[0][key]:.0f}" for key in ("n", "n_without_lesion", "n_both_empty")]
    nsd = [_cell(values, f"nsd_{unit}", 100, 1, f" ({unit})") for unit in _UNITS]
    rates = [_cell(values, key, 100) for key in ("sensitivity_0.1", "precision_0.1", "f1_0.1", "f1_0.5")]
    return [
        *counts,
        _cell(values, "dice_without_empty", 100),
        ", ".join(filter(None, (_cell(values, f"hd95_{unit}", 1, 1, f" {unit}") for unit in _UNITS))),
        ", ".join(filter(None, nsd)),
        *rates,
        _cell(values, "false_positives_without_lesion", 1, 2),
        _cell(values, "size_error", 100),
        _cell(values, "ece", 100, 2),
    ]


def _cell(values: Values, key: str, factor: float, digits: int = 1, unit: str = "") -> str:
    """The mean over seeds, with the standard deviation where there are several; empty where it is not defined."""
    known = factor * np.array([one[key] for one in values if one.get(key) is not None], dtype=np.float64)
    if not known.size:
        return ""
    spread = f" ± {known.std(ddof=1):.{digits}f}" if known.size > 1 else ""
    return f"{known.mean():.{digits}f}{spread}{unit}"
