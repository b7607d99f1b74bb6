"""Keeps the history of a training run in one JSON file and draws it."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ignite.distributed import get_rank
from ignite.engine import Events
from ignite.metrics import Average
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from monai.utils import is_scalar

from monai_tpseg.files import write_atomically
from monai_tpseg.handlers.progress import training_loss
from monai_tpseg.parsing import read_json

__all__ = ["LearningCurves", "draw_history", "read_history"]

Entry = dict[str, Any]
MEAN_DICE = "dice/mean"
BLUE, ORANGE = "#0072b2", "#d55e00"


class LearningCurves:
    """Writes `history.json` and `curves.png` after every epoch and every validation.

    The history is a list of entries `{epoch, loss, lr, metrics}` in order of the epoch, counted from 1: the mean
    training loss over all ranks, the learning rate of each parameter group when the epoch began, and all scalar
    metrics of the validation after it. Values that are not finite are null. When a run starts or resumes at an epoch,
    entries from that epoch on are dropped.

    Args:
        output_dir: folder of the two files; made if absent.
        evaluator: the engine whose metrics to keep; default: the trainer's own `state.metrics`.
        output_transform: maps the trainer's output to the loss, a number or a scalar tensor.

    Raises:
        ValueError: an existing `history.json` is not such a list.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        evaluator: Any = None,
        output_transform: Callable[[Any], Any] = training_loss,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.loss = Average(output_transform)
        self.history = read_history(self.output_dir / "history.json")

    def attach(self, engine: Any) -> None:
        """Attach to a trainer, before or after the handler that validates."""
        self.loss.attach(engine, "train_loss")  # on every rank: the mean is reduced over them
        if get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _epoch_started(self, engine: Any) -> None:
        epoch = engine.state.epoch
        self.history = [entry for entry in self.history if entry["epoch"] < epoch]
        optimizer = getattr(engine, "optimizer", None)
        if optimizer is not None:
            self._entry(epoch)["lr"] = [float(group["lr"]) for group in optimizer.param_groups]

    def _epoch_completed(self, engine: Any) -> None:
        entry = self._entry(engine.state.epoch)
        entry["loss"] = _finite(engine.state.metrics["train_loss"])
        if self.evaluator is None:
            entry["metrics"] = _scalars(engine.state.metrics)
        self._save()

    def _validated(self, evaluator: Any) -> None:
        self._entry(evaluator.state.epoch)["metrics"] = _scalars(evaluator.state.metrics)
        self._save()

    def _entry(self, epoch: int) -> Entry:
        for entry in self.history:
            if entry["epoch"] == epoch:
                return entry
        entry = {"epoch": epoch, "loss": None, "lr": [], "metrics": {}}
        self.history = sorted([*self.history, entry], key=lambda other: int(other["epoch"]))
        return entry

    def _save(self) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self.output_dir / "history.json", (json.dumps(self.history, indent=1) + "\n").encode())
        picture = io.BytesIO()
        FigureCanvasAgg(draw_history(self.history)).print_png(picture)
        write_atomically(self.output_dir / "curves.png", picture.getvalue())


def draw_history(history: list[Entry]) -> Figure:
    """Draw the loss with the learning rates, the mean Dice, and the Dice of each task over the epochs.

    Args:
        history: the entries that `LearningCurves` keeps.

    Returns:
        A figure with three panels, without a window or global state.
    """
    figure = Figure(figsize=(15, 4.2), dpi=110)
    margins = {"left": 0.035, "right": 0.99, "bottom": 0.12, "top": 0.92, "wspace": 0.25}
    loss_axes, mean_axes, task_axes = figure.subplots(1, 3, gridspec_kw=margins)
    _draw_loss(loss_axes, history)
    _draw_mean(mean_axes, history)
    _draw_tasks(task_axes, history)
    for axes in (loss_axes, mean_axes, task_axes):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure


def _draw_loss(axes: Any, history: list[Entry]) -> None:
    axes.plot(*_series((entry["epoch"], entry["loss"]) for entry in history), "o-", color=BLUE, markersize=3)
    axes.set_title("Training loss")
    groups = max((len(entry["lr"]) for entry in history), default=0)
    if groups:
        axes.set_title("Training loss (line) and learning rates (dashed, right)")
        rates = axes.twinx()
        rates.set_yscale("log")
    for group in range(groups):
        pairs = ((entry["epoch"], entry["lr"][group]) for entry in history if len(entry["lr"]) > group)
        rates.plot(*_series(pairs), "--", color="#999999", linewidth=1)


def _draw_mean(axes: Any, history: list[Entry]) -> None:
    epochs, values = _series((entry["epoch"], entry["metrics"].get(MEAN_DICE)) for entry in history)
    axes.set_title("Mean Dice")
    axes.set_ylim(0, 1.02)
    if values:
        best = values.index(max(values))
        axes.plot(epochs, values, "o-", color=BLUE, markersize=3)
        axes.plot(epochs[best], values[best], "*", color=ORANGE, markersize=12)
        axes.set_title(f"Mean Dice, best {values[best]:.4f} in epoch {epochs[best]}")


def _draw_tasks(axes: Any, history: list[Entry]) -> None:
    keys = dict.fromkeys(key for entry in history for key in entry["metrics"] if key.startswith("dice/"))
    names = [key for key in keys if key != MEAN_DICE]
    axes.set_title("Dice per task, with the latest value")
    axes.set_ylim(0, 1.02)
    for i, name in enumerate(names):
        epochs, values = _series((entry["epoch"], entry["metrics"].get(name)) for entry in history)
        label = f"{name.removeprefix('dice/')} {values[-1]:.3f}" if values else name
        axes.plot(epochs, values, "o-", markersize=3, color=colormaps["tab10"](i % 10), label=label)
    if names:
        axes.legend(fontsize=8, loc="best")


def _series(pairs: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    """Return epochs and values of the pairs that have a value."""
    points = [(epoch, value) for epoch, value in pairs if value is not None]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _scalars(metrics: dict[str, Any]) -> dict[str, float | None]:
    return {key: _finite(v) for key, v in metrics.items() if is_scalar(v) and not isinstance(v, str)}


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def read_history(path: Path) -> list[Entry]:
    """Return the entries of a `history.json`; none if there is no such file.

    Raises:
        ValueError: it is not such a list.
    """
    if not path.exists():
        return []
    try:
        history = read_json(path)
        return [{"epoch": int(e["epoch"]), **{k: e[k] for k in ("loss", "lr", "metrics")}} for e in history]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a training history; move it away or choose another folder.") from error
