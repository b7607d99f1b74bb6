"""A grid of pictures like Figure 5 of the paper: tasks down, networks across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import nn

from monai_tpseg.data.datalists import read_datalist
from monai_tpseg.data.findings import VALIDATION
from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.experiments.suite import SuiteError
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.metrics import LesionMetrics
from monai_tpseg.networks.described import build_described
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd, TaskToIndexd

__all__ = ["draw_grid"]

LABEL_COLOUR, PRED_COLOUR = "#0072b2", "#e69f00"


@dataclass(frozen=True)
class _Trained:
    title: str
    info: WeightsInfo
    network: nn.Module
    inferer: TaskInferer


def draw_grid(runs: Sequence[Path], data: Path, outlines: bool = False) -> Figure:
    """Draw the first validation picture with a lesion of every task, with the label's and each network's outline.

    Args:
        runs: folders of runs of `tpseg experiment` on the same data; their names head the columns.
        data: folder that the paths of their datalists start from.
        outlines: leave the pictures out, for data that must not be passed on.

    Raises:
        SuiteError: no run is named, a folder holds none, or no task is common to all.
    """
    if not runs:
        raise SuiteError("Give at least one folder of a run, e.g. OUT/runs/A4-0.")
    networks = [_trained(folder) for folder in runs]
    cases = _cases(runs[0], data, [trained.info for trained in networks])
    if not cases:
        raise SuiteError("The runs have no task in common; choose others.")
    figure = Figure(figsize=(2.0 * (len(networks) + 1), 2.0 * len(cases) + 0.4), layout="constrained")
    panels = figure.subplots(len(cases), len(networks) + 1, squeeze=False)
    for row, case in zip(panels, cases, strict=True):
        _draw_row(row, case, networks, outlines)
    for axes, title in zip(panels[0], ["label", *(trained.title for trained in networks)], strict=True):
        axes.set_title(f"{title}\n{axes.get_title()}" if axes.get_title() else title, fontsize=8)
    return figure


def _trained(folder: Path) -> _Trained:
    weights = folder / "model.pt"
    if not weights.is_file() or not (folder / "datalist.json").is_file():
        raise SuiteError(f"'{folder}' holds no trained run; expected model.pt and datalist.json.")
    info = read_info(weights)
    return _Trained(folder.name, info, build_described(weights), TaskInferer(info.image_size))


def _cases(folder: Path, data: Path, infos: Sequence[WeightsInfo]) -> list[dict[str, str]]:
    """Return the first validation entry with a lesion of every task that all networks know, with whole paths."""
    entries: list[Any] = read_datalist(folder / "datalist.json", VALIDATION, data, infos[0].tasks)
    common = [task for task in infos[0].tasks if all(task in info.tasks for info in infos)]
    read = LoadMedicalImaged(IMAGE, label_keys=LABEL)
    first = [next((e for e in entries if e[TASK] == task and read(dict(e))[LABEL].any()), None) for task in common]
    return [entry for entry in first if entry is not None]


@torch.no_grad()
def _draw_row(row: Sequence[Any], case: dict[str, str], networks: Sequence[_Trained], outlines: bool) -> None:
    for axes, trained in zip(row[1:], networks, strict=True):
        read = Compose([LoadMedicalImaged(IMAGE, label_keys=LABEL), TaskToIndexd(trained.info.tasks)])
        shown = read(dict(case))
        network_input = NormalizeByModalityd()(dict(shown))[IMAGE]
        probability = trained.inferer(network_input[None], trained.network, task=int(shown[TASK]))
        pred = (probability[0] >= THRESHOLD).to(torch.uint8)
        metrics = LesionMetrics(("one",))
        metrics.update([pred], [shown[LABEL]], [0])
        picture, label = _picture(shown[IMAGE]), np.asarray(shown[LABEL][0]) > 0
        _draw(axes, None if outlines else picture, label, np.asarray(pred[0]) > 0)
        axes.set_title(f"Dice {metrics.rows()[0]['dice']:.2f}", fontsize=7)
    _draw(row[0], None if outlines else picture, label, None)
    row[0].set_ylabel(case[TASK], fontsize=8)


def _picture(image: torch.Tensor) -> NDArray[np.float64]:
    """(3, H, W) as loaded -> (H, W, 3) in 0..1."""
    values = np.asarray(image, dtype=np.float64).transpose(1, 2, 0)
    low, high = values.min(), values.max()
    scaled: NDArray[np.float64] = (values - low) / max(high - low, 1e-6)
    return scaled


def _draw(axes: Any, picture: NDArray[Any] | None, label: NDArray[np.bool_], pred: NDArray[np.bool_] | None) -> None:
    axes.imshow(np.ones((*label.shape, 3)) if picture is None else picture)
    for mask, colour in ((label, LABEL_COLOUR), (pred, PRED_COLOUR)):
        if mask is not None and mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
    axes.set_xticks([])
    axes.set_yticks([])
