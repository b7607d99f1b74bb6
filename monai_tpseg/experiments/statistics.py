"""Scores of a row image by image, and what can be said about the difference of two rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from torch import Tensor

from monai_tpseg.metrics import dice, foreground_iou, mean_iou

__all__ = ["Comparison", "Scores", "compare", "compare_values", "interval", "interval_of_values", "row_scores"]

Values = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """Scores of a row on all validation images.

    Attributes:
        seeds: random seeds of its runs.
        tasks: task of each image, (N,).
        cases: name of each image, (N,).
        counts: tp, fp, fn, tn in pixels, (seeds, N, 4).
    """

    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    cases: tuple[str, ...]
    counts: NDArray[np.int64]

    def values(self, measure: str = "dice") -> Values:
        """Return a measure per seed and image, (seeds, N): "dice", "iou_foreground" or "iou_mean"."""
        return _measured(self.counts, measure)

    def by_task(self, measure: str = "dice") -> dict[str, Values]:
        """Return the mean over each task's images, one value per seed; "iou_dataset" is of all of its pixels."""
        names = dict.fromkeys(self.tasks)
        own = {name: np.array([task == name for task in self.tasks]) for name in names}
        if measure == "iou_dataset":
            return {name: _measured(self.counts[:, mask].sum(1), "iou_mean") for name, mask in own.items()}
        values = self.values(measure)
        return {name: values[:, mask].mean(1) for name, mask in own.items()}

    def mean(self, measure: str = "dice") -> Values:
        """Return the mean over tasks, each counting once, one value per seed."""
        means: Values = np.stack(list(self.by_task(measure).values())).mean(0)
        return means

    def only(self, cases: Sequence[tuple[str, str]]) -> Scores:
        """Return the scores of some images, given as (case, task), in that order."""
        place = {pair: i for i, pair in enumerate(zip(self.cases, self.tasks, strict=True))}
        order = [place[pair] for pair in cases]
        tasks = tuple(self.tasks[i] for i in order)
        return Scores(self.seeds, tasks, tuple(self.cases[i] for i in order), self.counts[:, order])


_MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "dice": dice,
    "iou_foreground": foreground_iou,
    "iou_mean": mean_iou,
}


def _measured(counts: NDArray[Any], measure: str) -> Values:
    values: Values = _MEASURES[measure](torch.from_numpy(counts)).numpy()
    return values


def row_scores(results: dict[str, Any], row: str) -> Scores | None:
    """Return the scores of a row, or None where none of its runs is done.

    The runs of a row with one model per task are joined. A seed counts when it has as many images as any other seed of
    the row.

    Args:
        results: see docs/experiments.md.
        row: id of the row.
    """
    seeds: dict[int, dict[tuple[str, str], list[int]]] = {}
    for run in results["runs"]:
        if run["row"] == row:
            images = run["images"]
            pairs = zip(images["case"], images["task"], strict=True)
            seeds.setdefault(run["seed"], {}).update(zip(pairs, images["counts"], strict=True))
    if not seeds:
        return None
    most = max(len(images) for images in seeds.values())
    whole = {seed: images for seed, images in sorted(seeds.items()) if len(images) == most}
    order = sorted(next(iter(whole.values())), key=lambda pair: (results["tasks"].index(pair[1]), pair[0]))
    counts = np.array([[images[pair] for pair in order] for images in whole.values()], dtype=np.int64)
    return Scores(tuple(whole), tuple(task for _, task in order), tuple(case for case, _ in order), counts)


@dataclass(frozen=True)
class Comparison:
    """The difference of two rows in mean Dice, first minus second, on the images that both have.

    Attributes:
        difference: mean over tasks of the mean over images, both averaged over seeds.
        low, high: 95 % interval of the difference, bootstrap over images within each task.
        p_value: two-sided Wilcoxon signed-rank test over the images; None where no image differs.
        images: number of images.
    """

    difference: float
    low: float
    high: float
    p_value: float | None
    images: int


def compare(first: Scores, second: Scores, resamples: int = RESAMPLES) -> Comparison:
    """Compare two rows image by image, seeds averaged.

    The interval is over images; it does not hold what another seed would change, which the spread over seeds shows.
    """
    known = set(zip(second.cases, second.tasks, strict=True))
    both = [pair for pair in zip(first.cases, first.tasks, strict=True) if pair in known]
    one, two = first.only(both), second.only(both)
    return compare_values(one.values().mean(0), two.values().mean(0), one.tasks, resamples)


def compare_values(first: Values, second: Values, tasks: Sequence[str], resamples: int = RESAMPLES) -> Comparison:
    """Compare two measurements of the same images.

    Args:
        first: (N,), a score of each image.
        second: (N,), of the same images.
        tasks: task of each image, N.
        resamples: number of bootstrap samples.
    """
    gap = first - second
    p_value = float(wilcoxon(gap).pvalue) if np.any(gap) else None
    return Comparison(_macro(gap, tasks), *interval_of_values(gap, tasks, resamples), p_value, len(tasks))


def interval(scores: Scores, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95 % interval of the mean Dice, bootstrap over images within each task, seeds averaged."""
    return interval_of_values(scores.values().mean(0), scores.tasks, resamples)


def interval_of_values(values: Values, tasks: Sequence[str], resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95 % interval of the mean over tasks of `values` (N,), bootstrap over images within each task."""
    low, high = np.quantile(_resampled(values, tasks, resamples), [0.025, 0.975])
    return float(low), float(high)


def _macro(values: Values, tasks: Sequence[str]) -> float:
    names = np.array(tasks)
    return float(np.mean([values[names == name].mean() for name in dict.fromkeys(tasks)]))


def _resampled(values: Values, tasks: Sequence[str], resamples: int) -> Values:
    """Return the mean over tasks of `resamples` draws of images with replacement within each task."""
    generator, names = np.random.default_rng(0), np.array(tasks)
    means: list[Values] = []
    for name in dict.fromkeys(tasks):
        own = values[names == name]
        means.append(own[generator.integers(0, len(own), (resamples, len(own)))].mean(1))
    macro: Values = np.stack(means).mean(0)
    return macro
