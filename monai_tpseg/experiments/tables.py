"""Results files as the paper's tables, in Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_tpseg.experiments.details_table import details_cells, has_details
from monai_tpseg.experiments.statistics import Comparison, Scores, compare, interval, row_scores
from monai_tpseg.experiments.suite import SuiteError

__all__ = ["DETAILS", "IOU_READINGS", "TITLES", "Table", "make_table"]

IOU_READINGS = ("iou_mean", "iou_foreground", "iou_dataset")
TITLES = {
    2: "Table 2: every task, Dice / mIoU in percent",
    3: "Table 3: ablations, mean over tasks in percent",
    4: "Table 4: without one PGTD, mean over tasks in percent",
    5: "Table 5: cost of the networks as they were run",
    6: "Table 6: boundary and lesions, in percent; HD95 in mm or pixels, false positives per image without lesion",
}
DETAILS = 6
"""The number of the one that the paper does not have."""


@dataclass(frozen=True)
class Table:
    """Cells of text under a header.

    Attributes:
        title: above the table.
        header: names of the columns.
        rows: cells; as many as the header has.
        missing: titles of rows that were planned and have no result yet.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table in Markdown, with what is missing named below it."""
        lines = [" | ".join(cells).join(("| ", " |")) for cells in (self.header, *self.rows)]
        lines.insert(1, "|" + "---|" * len(self.header))
        if self.missing:
            lines += ["", f"Not run yet: {', '.join(self.missing)}."]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Return the table as comma-separated values; missing rows have empty cells."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.header)
        writer.writerows(self.rows)
        writer.writerows([title, *[""] * (len(self.header) - 1)] for title in self.missing)
        return text.getvalue()


def make_table(results: dict[str, Any], number: int, iou: str = "iou_mean") -> Table:
    """Return one of the paper's tables from a results file.

    Args:
        results: see docs/experiments.md.
        number: 2, 3, 4, 5 or 6.
        iou: definition of mIoU in the table, one of `IOU_READINGS`.

    Raises:
        SuiteError: no such table or reading, or no row of the suite belongs to it.
    """
    if number not in TITLES:
        raise SuiteError(f"There is no table {number} here; choose one of {', '.join(map(str, TITLES))}.")
    if iou not in IOU_READINGS:
        raise SuiteError(f"Unknown definition of mIoU {iou!r}; choose one of {', '.join(IOU_READINGS)}.")
    if number == DETAILS:
        return _details(results)
    rows = [row for row in results["rows"] if number in row["tables"] or number == 5]
    if not rows:
        raise SuiteError(f"No row of suite '{results['suite']}' belongs to table {number}; see 'tables' of a row.")
    scores = {row["id"]: row_scores(results, row["id"]) for row in results["rows"]}
    done = [row for row in rows if scores[row["id"]] is not None]
    missing = tuple(_label(row) for row in rows if scores[row["id"]] is None)
    make = {2: _tasks, 5: _cost}.get(number, _ablations)
    header, cells = make(results, done, {k: s for k, s in scores.items() if s is not None}, iou)
    return Table(TITLES[number], tuple(header), tuple(tuple(row) for row in cells), missing)


def _details(results: dict[str, Any]) -> Table:
    done = [row for row in results["rows"] if has_details(results, row["id"])]
    if not done:
        raise SuiteError(f"No run of suite '{results['suite']}' has boundary and lesion metrics; run it again.")
    header, cells = details_cells(results, done, _label)
    missing = tuple(_label(row) for row in results["rows"] if row not in done)
    return Table(TITLES[DETAILS], tuple(header), tuple(tuple(row) for row in cells), missing)


def _label(row: dict[str, Any]) -> str:
    return row["title"] if row["title"] == row["id"] else f"{row['title']} ({row['id']})"


def _percent(values: Any) -> str:
    """Return the mean over seeds in percent, with the standard deviation where there are several seeds."""
    values = 100 * np.asarray(values)
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def _tasks(
    results: dict[str, Any], rows: Sequence[dict[str, Any]], scores: dict[str, Scores], iou: str
) -> tuple[list[str], list[list[str]]]:
    header = ["row", *results["tasks"], "mean Dice", "95 % interval", "mean mIoU", "seeds"]
    table = []
    for row in rows:
        own = scores[row["id"]]
        dice, union = own.by_task(), own.by_task(iou)
        cells = [f"{_percent(dice[t])} / {_percent(union[t])}" if t in dice else "" for t in results["tasks"]]
        whole = len(dice) == len(results["tasks"])  # a mean over some tasks is no mean over all
        low, high = interval(own)
        means = [_percent(own.mean()), f"{100 * low:.1f} to {100 * high:.1f}", _percent(own.mean(iou))]
        table.append([_label(row), *cells, *(means if whole else [""] * 3), f"{len(own.seeds)} of {row['planned']}"])
    return header, table


def _ablations(
    results: dict[str, Any], rows: Sequence[dict[str, Any]], scores: dict[str, Scores], iou: str
) -> tuple[list[str], list[list[str]]]:
    reference = results["reference"]
    header = ["row", "tasks", "Dice", "mIoU", f"minus {reference}", "95 % interval", "p (Wilcoxon)", "images"]
    header.append("paper's Dice")
    table = []
    for row in rows:
        own = scores[row["id"]]
        compared = ["", "", "", str(len(own.tasks))]
        if row["id"] != reference and reference in scores:
            compared = comparison_cells(compare(own, scores[reference]))
        paper = "" if row["paper"] is None else f"{row['paper']:.2f}"
        means = [str(len(own.by_task())), _percent(own.mean()), _percent(own.mean(iou))]
        table.append([_label(row), *means, *compared, paper])
    return header, table


def comparison_cells(comparison: Comparison) -> list[str]:
    """Return difference, interval and p of a comparison, and the number of its images, as cells."""
    p_value = "" if comparison.p_value is None else f"{comparison.p_value:.2g}"
    span = f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
    return [f"{100 * comparison.difference:+.1f}", span, p_value, str(comparison.images)]


def _cost(
    results: dict[str, Any], rows: Sequence[dict[str, Any]], scores: dict[str, Scores], _iou: str
) -> tuple[list[str], list[list[str]]]:
    header = ["row", "models", "parameters", "training steps", "CPU minutes", "wall minutes", "mean Dice"]
    table = []
    for row in rows:
        runs = [run for run in results["runs"] if run["row"] == row["id"]]
        first = [run for run in runs if run["seed"] == runs[0]["seed"]]
        seconds = [[sum(r["clock"][-1][key] for r in runs) for key in ("cpu_seconds", "wall_seconds")]]
        share = len({run["seed"] for run in runs})
        minutes = [f"{value / 60 / share:.1f}" for value in seconds[0]]
        steps = sum(_steps(run) for run in first)
        parameters = sum(run["parameters"] for run in first)
        cells = [str(len(first)), f"{parameters / 1e6:.2f} M", str(steps) if steps else "", *minutes]
        whole = len(scores[row["id"]].by_task()) == len(results["tasks"])
        table.append([_label(row), *cells, _percent(scores[row["id"]].mean()) if whole else ""])
    return header, table


def _steps(run: dict[str, Any]) -> int:
    """Return the optimiser steps of a run, 0 where its options do not say how many cases an epoch has."""
    options = run["options"]
    cases = options.get("epoch_cases") or 0
    return int(-(-cases // options.get("batch_size", 8)) * len(run["clock"]))
