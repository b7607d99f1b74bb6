"""Figures of a results file: prototypes (Figures 7 and 8 of the paper), gates, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from monai_tpseg.experiments.statistics import row_scores
from monai_tpseg.experiments.suite import SuiteError
from monai_tpseg.files import complete
from monai_tpseg.handlers.gates import draw_gates

__all__ = ["draw_curves", "draw_separation", "draw_similarity", "write_figures"]


def write_figures(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the results hold into `folder`.

    Args:
        results: see docs/experiments.md.
        folder: folder of the pictures, created if necessary.

    Returns:
        the files: `curves.png`, and for the reference row's first run `similarity.png`, `separation.png` (where it has
        prototypes) and `gates.png` (where it has gates).

    Raises:
        SuiteError: there is no run yet.
    """
    if not results["runs"]:
        raise SuiteError("The results contain no run yet, so nothing can be drawn.")
    figures = {"curves": draw_curves(results)}
    reference = [run for run in results["runs"] if run["row"] == results["reference"]]
    run = reference[0] if reference else {}
    if "similarity" in run:
        figures["similarity"] = draw_similarity(run)
        figures["separation"] = draw_separation(run)
    if "split" in run:
        figures["gates"] = draw_gates(torch.tensor(run["gates"]), run["split"], run["tasks"])
    written = []
    for name, figure in figures.items():
        written.append(folder / f"{name}.png")
        with complete(written[-1]) as part:
            figure.savefig(part, dpi=110)
    return written


def draw_similarity(run: dict[str, Any]) -> Figure:
    """Draw Figure 7: cosines of the foreground prototypes of all pairs of tasks, a panel per PGTD."""
    matrices, tasks = run["similarity"], run["tasks"]
    figure = Figure(figsize=(4.4 * len(matrices) + 1.2, 5.2), layout="constrained")
    for i, (axes, matrix) in enumerate(zip(_panels(figure, len(matrices)), matrices, strict=True)):
        image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        for row, values in enumerate(matrix):
            for column, value in enumerate(values):
                colour = "white" if abs(value) > 0.7 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_title(_pgtd_title(i, len(matrices)))
        axes.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(tasks)), tasks if i == 0 else [""] * len(tasks), fontsize=8)
    figure.colorbar(image, ax=figure.axes, shrink=0.7, label="cosine of foreground prototypes")
    return figure


def draw_separation(run: dict[str, Any]) -> Figure:
    """Draw Figure 8: 1 - cosine of each task's foreground and background prototype against its Dice."""
    dice = [run["metrics"][task]["dice"] for task in run["tasks"]]
    panels = run["separation"]
    figure = Figure(figsize=(4.0 * len(panels) + 1.2, 3.8), layout="constrained")
    for i, (axes, values) in enumerate(zip(_panels(figure, len(panels)), panels, strict=True)):
        for j, task in enumerate(run["tasks"]):
            axes.plot(values[j], dice[j], "o", color=colormaps["tab10"](j), label=task)
        axes.set(xlabel="1 - cosine(foreground, background)", title=_pgtd_title(i, len(panels)))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Dice")
    figure.axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside the points
    return figure


def draw_curves(results: dict[str, Any]) -> Figure:
    """Draw training loss by epoch relative to the first, and the mean Dice against CPU minutes of training."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    loss, dice = _panels(figure, 2)
    rows = [row for row in results["rows"] if row_scores(results, row["id"]) is not None]
    for i, row in enumerate(rows):
        colour = colormaps["tab20"](i % 20)
        runs = [run for run in results["runs"] if run["row"] == row["id"] and len(run["tasks"]) > 1]
        for run in runs:
            label = row["title"] if run is runs[0] else None
            epochs = [entry["epoch"] for entry in run["history"]]
            first = run["history"][0]["loss"]
            loss.plot(epochs, [e["loss"] / first for e in run["history"]], color=colour, label=label, linewidth=1.2)
            minutes = {entry["epoch"]: entry["cpu_seconds"] / 60 for entry in run["clock"]}
            points = [(minutes[e["epoch"]], e["dice"]) for e in run["history"] if e["dice"] is not None]
            dice.plot(*np.array(points).T, "o-", color=colour, label=label, markersize=4, linewidth=1.2)
    loss.set(xlabel="epoch", title="Training loss, relative to the first epoch")
    dice.set(xlabel="CPU minutes of training", title="Mean Dice, validation")
    for axes in (loss, dice):
        axes.grid(alpha=0.3)
    dice.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _panels(figure: Figure, count: int) -> Sequence[Any]:
    panels: Sequence[Any] = figure.subplots(1, count, squeeze=False)[0]
    return panels


def _pgtd_title(index: int, count: int) -> str:
    return f"PGTD{index + 1}" if count == 3 else f"PGTD, {index + 1} of {count}"
