"""Results of K-Prism on lesions as arrays, and the figure of Dice against clicks."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.metrics import MEAN

TRAINED = {"mixed": "mixed", "clicks": "clicks only", "semantic": "class only"}
STARTS = {"semantic": "a class", "in_context": "an exemplar", "interactive": "nothing"}
Results = dict[str, Any]


class Measured:
    """An evaluation as arrays.

    Attributes:
        dice: (N, 1 + clicks), of each picture before the first click and after each.
        tasks: of each picture, N.
        noc: task or mean -> "noc85" and "noc90"; empty without clicks.
    """

    def __init__(self, evaluation: dict[str, Any], tasks: list[str]) -> None:
        self.dice, self.tasks = np.array(evaluation["dice"]), tasks
        self.noc: dict[str, dict[str, float]] = evaluation["noc"]

    def means(self, click: int = 0) -> dict[str, float]:
        """Return the mean over the pictures of each task, and over tasks."""
        names = np.array(self.tasks)
        means = {task: float(self.dice[names == task, click].mean()) for task in TASK_NAMES}
        return {**means, MEAN: float(np.mean(list(means.values())))}


def find(results: Results, training: str, start: str, **wanted: Any) -> Measured | None:
    """Return the first evaluation of that kind, or None where it has not been run."""
    asked = {"training": training, "start": start, **wanted}
    for evaluation in results["evaluations"]:
        if all(evaluation[key] == value for key, value in asked.items()):
            return Measured(evaluation, results["images"]["task"])
    return None


def clicking(results: Results) -> dict[str, Measured | None]:
    """Return the evaluations with clicks by training and start."""
    asked = [("mixed", start) for start in STARTS] + [("clicks", "interactive"), ("semantic", "semantic")]
    return {f"{TRAINED[t]}, from {STARTS[start]}": find(results, t, start, clicks=10) for t, start in asked}


def draw(results: Results) -> Figure:
    """Draw Dice against clicks: the mean of every training and start, and each task of the mixed training."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for i, (name, found) in enumerate(clicking(results).items()):
        if found is not None:
            curve = [found.means(n)[MEAN] for n in range(found.dice.shape[1])]
            left.plot(curve, "o-", color=colormaps["tab10"](i), markersize=4, label=name)
    alone = find(results, "mixed", "interactive")
    for i, task in enumerate((*TASK_NAMES, MEAN) if alone is not None else ()):
        style: dict[str, Any] = {"color": colormaps["tab10"](i), "linewidth": 1, "markersize": 3}
        if task == MEAN:
            style = {"color": "black", "linewidth": 2.5, "markersize": 4}
        right.plot([alone.means(n)[task] for n in range(alone.dice.shape[1])], "o-", label=task, **style)
    left.set(xlabel="clicks", ylabel="Dice", ylim=(0, 1), title="Mean over tasks")
    right.set(xlabel="clicks", title="Mixed training, clicks only")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    return figure
