"""Evaluation of clicks: metrics for the engine, tables and a curve for the reader."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.distributed import get_rank
from ignite.engine import Events
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.click_metrics import ClickScores, clicks_needed
from monai_tpseg.files import write_atomically
from monai_tpseg.handlers.lesion_metrics import case_name, evaluated_cases
from monai_tpseg.keys import LABEL, ROUNDS, TASK
from monai_tpseg.metrics import MEAN

__all__ = ["ClickMetricsHandler", "draw_clicks"]

logger = logging.getLogger(__name__)

AFTER = (0, 1, 3, 5, 10)
THRESHOLDS = (0.85, 0.9)


class ClickMetricsHandler:
    """Measures the masks of a `SimulatedUser` after each click.

    At the end of the epoch `engine.state.metrics` holds, for every task present and for `mean` (tasks weighted
    equally), `dice_after_<n>/<task>` for 0, 1, 3, 5 and 10 clicks, as far as available, and `noc85/<task>` and
    `noc90/<task>`, the mean number of clicks to an IoU of 0.85 or 0.9 (the number of all clicks if it is never
    reached). Rank 0 logs a table and writes `clicks.json` (these and the mean Dice curve of each task), `clicks.png`
    and `clicks_per_image.csv`, the Dice and the IoU of each picture before the first click and after each.

    Args:
        task_names: names in row order.
        output_dir: folder of the files; none are written by default.
    """

    def __init__(
        self, task_names: Sequence[str] = TASK_NAMES, output_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self.task_names = tuple(task_names)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.dice, self.iou, self.tasks = ClickScores("dice"), ClickScores("iou"), _Rows()
        self.names: list[str] = []

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator whose cases have `rounds`, `label` and `task`."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def _started(self, engine: Any) -> None:
        self.names = []
        for metric in (self.dice, self.iou, self.tasks):
            metric.reset()

    def _iteration(self, engine: Any) -> None:
        for case in evaluated_cases(engine):
            masks, label = (_plain(case[key])[None] for key in (ROUNDS, LABEL))
            self.dice(masks, label)
            self.iou(masks, label)
            self.tasks(torch.tensor([[float(case[TASK])]]))
            self.names.append(case_name(case, str(len(self.names))))

    def _completed(self, engine: Any) -> None:
        rows = self.tasks.scores()[:, 0].long().tolist()
        dice, iou = self.dice.scores().cpu(), self.iou.scores().cpu()
        summary, names = summarise(rows, dice, iou, self.task_names), _of_all_ranks(self.names)
        for task, values in summary.items():
            engine.state.metrics |= {f"{key}/{task}": v for key, v in values.items() if key not in ("n", "curve")}
        if get_rank() == 0:
            logger.info("Clicks\n%s", _table(summary))
            if self.output_dir is not None:
                _write(self.output_dir, summary)
                pictures = _per_image(names, [self.task_names[row] for row in rows], dice, iou)
                write_atomically(self.output_dir / "clicks_per_image.csv", pictures)


class _Rows(ClickScores):
    """The task of every case, gathered in the same order as the scores."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return y_pred


def _of_all_ranks(names: list[str]) -> list[str]:
    """Gather the names of all ranks, in MONAI's order of their scores."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return names
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, names)
    return [name for part in parts for name in part]


def _plain(mask: Tensor) -> Tensor:
    return mask.as_subclass(Tensor)


def summarise(rows: Sequence[int], dice: Tensor, iou: Tensor, task_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics of each task present, in row order, and their `mean`.

    Args:
        rows: task of every case.
        dice: (cases, 1 + N).
        iou: (cases, 1 + N).
        task_names: names in row order.
    """
    result: dict[str, dict[str, Any]] = {}
    task = torch.tensor(rows)
    for row in sorted(set(rows)):
        own = task == row
        curve = dice[own].mean(0)
        values: dict[str, Any] = {"n": int(own.sum())}
        values |= {f"dice_after_{n}": float(curve[n]) for n in AFTER if n < len(curve)}
        values |= {f"noc{100 * t:.0f}": float(clicks_needed(iou[own], t).double().mean()) for t in THRESHOLDS}
        result[task_names[row]] = {**values, "curve": curve.tolist()}
    tasks = list(result.values())
    mean: dict[str, Any] = {k: sum(v[k] for v in tasks) / len(tasks) for k in tasks[0] if k not in ("n", "curve")}
    mean["curve"] = torch.tensor([v["curve"] for v in tasks]).mean(0).tolist()
    return {**result, MEAN: {"n": len(rows), **mean}}


def draw_clicks(summary: dict[str, dict[str, Any]]) -> Figure:
    """Draw the mean Dice of each task, and of all, against the number of clicks."""
    figure = Figure(figsize=(6.5, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for i, (task, values) in enumerate(summary.items()):
        style: dict[str, Any] = {"color": colormaps["tab10"](i % 10), "linewidth": 1}
        if task == MEAN:
            style = {"color": "black", "linewidth": 2.5}
        axes.plot(values["curve"], "o-", markersize=3, label=f"{task} (NoC90 {values['noc90']:.2f})", **style)
    axes.set(xlabel="clicks", ylabel="Dice", ylim=(0, 1.02), title="Dice against clicks")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _write(folder: Path, summary: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "clicks.json", (json.dumps(summary, indent=2) + "\n").encode())
    picture = io.BytesIO()
    FigureCanvasAgg(draw_clicks(summary)).print_png(picture)
    write_atomically(folder / "clicks.png", picture.getvalue())


def _per_image(names: Sequence[str], tasks: Sequence[str], dice: Tensor, iou: Tensor) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["case", "task", *(f"{key}_{n}" for key in ("dice", "iou") for n in range(dice.shape[1]))])
    for name, task, *curves in zip(names, tasks, dice.tolist(), iou.tolist(), strict=True):
        writer.writerow([name, task, *(round(value, 6) for curve in curves for value in curve)])
    return text.getvalue().encode()


def _table(summary: dict[str, dict[str, Any]]) -> str:
    keys = [key for key in summary[MEAN] if key not in ("n", "curve")]
    width = max(len(task) for task in summary)
    lines = [f"{'task':{width}} {'n':>6} " + " ".join(f"{key:>13}" for key in keys)]
    for task, values in summary.items():
        lines.append(f"{task:{width}} {values['n']:6d} " + " ".join(f"{values[key]:13.4f}" for key in keys))
    return "\n".join(lines)
