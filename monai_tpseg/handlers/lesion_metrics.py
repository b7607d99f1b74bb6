"""Validation metrics as an ignite metric: a value for the best checkpoint, tables for the reader."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from ignite.distributed import get_rank
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric

from monai_tpseg.catalogue import TASK_NAMES, resolve_task
from monai_tpseg.evaluation.details import DETAILS, CaseDetails, mean_over_tasks, summarise_details, without_bins
from monai_tpseg.files import write_atomically
from monai_tpseg.keys import IMAGE, LABEL, PRED, PROB, TASK
from monai_tpseg.metrics import MEAN, MEASURES, LesionMetrics, gather

logger = logging.getLogger(__name__)

_SHOWN = ("hd95_mm", "hd95_px", "nsd_mm", "nsd_px", "sensitivity_0.1", "precision_0.1", "f1_0.5", "ece")
"""Columns of the second table in the log; the files have all of `DETAILS`."""

__all__ = ["LesionMetricsHandler", "case_name", "evaluated_cases"]


class LesionMetricsHandler(Metric):
    """The key metric of a MONAI evaluator, the mean over tasks of the mean Dice per image, plus all other metrics.

    At the end of the epoch `engine.state.metrics` holds the value under the attached name and, for every task and for
    `mean`, `dice/<task>`, `iou_foreground/<task>`, `iou_mean/<task>` and `iou_dataset/<task>`;
    `engine.state.metric_details[name]` is the Dice of each case, (N, 1). Rank 0 logs a table and writes the files.

    Args:
        task_names: names in row order.
        output_dir: where to write `metrics.json`, `metrics.csv` (a row per task) and `metrics_per_image.csv`; none
            are written by default.
        details: also measure boundary, single lesions, calibration and size, see `docs/conventions.md`; the files and
            the log carry them. The calibration error needs `prob` in the output, millimetres the image with its meta.
        modalities: name -> modality of tasks beyond the catalogue, for the details.
        output_transform: maps the list of cases, each a dictionary of the evaluator's output laid over its batch, to
            a list of dictionaries with `pred` and `label` masks of one size (1, H, W[, D]) and `task`.

    Raises:
        ValueError: the names are empty, repeated, or hold `mean`.
    """

    def __init__(
        self,
        task_names: Sequence[str] = TASK_NAMES,
        output_dir: str | os.PathLike[str] | None = None,
        output_transform: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda cases: cases,
        details: bool = False,
        modalities: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.lesion_metrics = LesionMetrics(task_names)
        self.details = CaseDetails(modalities) if details else None
        self._measured: list[dict[str, Any]] = []
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._rows: list[dict[str, Any]] = []
        self._summary: dict[str, dict[str, Any]] = {}
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget the cases of the previous epoch."""
        self.lesion_metrics.reset()
        self._measured = []

    def iteration_completed(self, engine: Any) -> None:
        """Add the cases of one iteration; the task may be in the batch only, as in MONAI's evaluators."""
        self.update(self._output_transform(evaluated_cases(engine)))

    def update(self, output: list[dict[str, Any]]) -> None:
        """Add cases, each a dictionary with `pred`, `label` and `task`; the name comes from the tensors' metadata."""
        start = len(self.lesion_metrics)
        self.lesion_metrics.update(
            [case[PRED] for case in output],
            [case[LABEL] for case in output],
            [case[TASK] for case in output],
            [case_name(case, str(start + i)) for i, case in enumerate(output)],
        )
        if self.details is not None:
            self._measured += [self._measure(self.details, case) for case in output]

    def compute(self) -> float:
        """Return the mean over tasks of the mean Dice per image.

        Raises:
            NotComputableError: there was no case.
        """
        self._rows = self.lesion_metrics.rows()
        if not self._rows:
            raise NotComputableError("No case was measured; the evaluator's data loader yielded none.")
        self._summary = self.lesion_metrics.summarise(self._rows)
        if self.details is not None:
            self._add_details(gather(self._measured))
        return self._summary[MEAN]["dice"]

    def completed(self, engine: Any, name: str) -> None:
        """Write the value, the table per task and the files."""
        super().completed(engine, name)
        for task in (*self.lesion_metrics.task_names, MEAN):
            for key in MEASURES:
                engine.state.metrics.pop(f"{key}/{task}", None)  # of an earlier run, for a task absent from this one
                if task in self._summary:
                    engine.state.metrics[f"{key}/{task}"] = self._summary[task][key]
        if hasattr(engine.state, "metric_details"):
            engine.state.metric_details[name] = torch.tensor([[row["dice"]] for row in self._rows])
        if get_rank() == 0:
            logger.info("Lesion metrics\n%s", _table(self._summary))
            if self.output_dir is not None:
                self._write(self.output_dir)

    def _measure(self, details: CaseDetails, case: dict[str, Any]) -> dict[str, Any]:
        names, task = self.lesion_metrics.task_names, case[TASK]
        name = names[resolve_task(task if isinstance(task, str) else int(task), names)]
        prob = case.get(PROB)
        return details.measure(case[PRED], case[LABEL], name, None if prob is None else prob[-1:], _grid_of(case))

    def _add_details(self, measured: list[dict[str, Any]]) -> None:
        rows = [{**row, **more} for row, more in zip(self._rows, measured, strict=True)]
        found = {task: [row for row in rows if row["task"] == task] for task in self._summary if task != MEAN}
        summaries = {task: summarise_details(own) for task, own in found.items()}
        summaries[MEAN] = mean_over_tasks(list(summaries.values()))
        self._rows = [without_bins(row) for row in rows]
        self._summary = {task: {**values, **summaries[task]} for task, values in self._summary.items()}

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        per_task = [{"task": task, **values} for task, values in self._summary.items()]
        write_atomically(folder / "metrics.json", (json.dumps(self._summary, indent=2) + "\n").encode())
        write_atomically(folder / "metrics.csv", _csv(per_task))
        write_atomically(folder / "metrics_per_image.csv", _csv(self._rows))


def evaluated_cases(engine: Any) -> list[dict[str, Any]]:
    """Return the cases of a MONAI engine's iteration, each its batch entry with the output laid over it.

    Args:
        engine: a MONAI engine after decollation: `state.output` is a list of dictionaries.

    Raises:
        ValueError: the output is not decollated.
    """
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(output, list):
        raise ValueError(f"The output must be a list of cases, got {type(output).__name__}; set decollate=True.")
    if not isinstance(batch, list):
        return output
    return [{**source, **result} for source, result in zip(batch, output, strict=True)]


def case_name(case: dict[str, Any], default: str) -> str:
    """Return the source file of a case from the metadata of its prediction, label or image, or `default`."""
    for key in (PRED, LABEL, "image"):
        name = getattr(case.get(key), "meta", {}).get("filename_or_obj")
        if name:
            return str(name)
    return default


def _grid_of(case: dict[str, Any]) -> Mapping[str, Any]:
    """The metadata of the label's image; empty if resizing has made them obsolete."""
    return next((case[key].meta for key in (IMAGE, LABEL) if getattr(case.get(key), "meta", None)), {})


def _table(summary: dict[str, dict[str, Any]]) -> str:
    lines = _columns(summary, MEASURES)
    if all(key in values for key in DETAILS for values in summary.values()):
        lines += ["", *_columns(summary, _SHOWN)]
    return "\n".join(lines)


def _columns(summary: dict[str, dict[str, Any]], keys: Sequence[str]) -> list[str]:
    width = max(len(task) for task in summary)
    lines = [f"{'task':{width}} {'n':>6} " + " ".join(f"{key:>14}" for key in keys)]
    for task, values in summary.items():
        cells = ("" if values[key] is None else f"{values[key]:.4f}" for key in keys)
        lines.append(f"{task:{width}} {values['n']:6.0f} " + " ".join(f"{cell:>14}" for cell in cells))
    return lines


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
