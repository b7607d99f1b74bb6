from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine, Events
from PIL import Image

from monai_tpseg.handlers.curves import LearningCurves, draw_history


def run(folder: Path, epochs: int, resume: int = 0, curves_first: bool = False, every: int = 1, **kwargs: Any) -> Any:
    """Train `epochs` epochs whose loss is 10 / epoch and whose mean Dice is epoch / 10."""
    trainer = Engine(lambda engine, batch: {"loss": 10.0 / engine.state.epoch + batch})
    trainer.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.01}])
    evaluator = Engine(lambda engine, batch: None)

    @trainer.on(Events.STARTED)
    def load() -> None:
        trainer.state.epoch, trainer.state.iteration = resume, resume * 2

    @evaluator.on(Events.EPOCH_COMPLETED)
    def measure() -> None:
        dice = trainer.state.epoch / 10
        evaluator.state.metrics = {"dice/mean": dice, "dice/wet_amd": dice, "names": "text", "table": {"a": 1}}

    def validate() -> None:
        evaluator.state.max_epochs, evaluator.state.epoch = trainer.state.epoch, trainer.state.epoch - 1
        evaluator.run([0], max_epochs=trainer.state.epoch)

    @trainer.on(Events.EPOCH_COMPLETED)
    def decay() -> None:
        for group in trainer.optimizer.param_groups:
            group["lr"] /= 10

    curves = LearningCurves(folder, evaluator, **kwargs)
    if curves_first:
        curves.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=every), validate)
    if not curves_first:
        curves.attach(trainer)
    trainer.run([-0.5, 0.5], max_epochs=epochs)
    return json.loads((folder / "history.json").read_text())


@pytest.mark.parametrize("curves_first", [True, False])
def test_history_holds_each_epoch_in_either_order_of_the_handlers(tmp_path: Path, curves_first: bool) -> None:
    history = run(tmp_path / "new", 2, curves_first=curves_first)
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert [entry["loss"] for entry in history] == pytest.approx([10, 5])
    assert [entry["metrics"] for entry in history] == [
        {"dice/mean": epoch / 10, "dice/wet_amd": epoch / 10} for epoch in (1, 2)
    ]
    assert history[0]["lr"] == [0.1, 0.01]
    assert history[1]["lr"] == pytest.approx([0.01, 0.001])  # as the epoch began
    with Image.open(tmp_path / "new/curves.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_epochs_without_validation_have_no_stale_metrics(tmp_path: Path) -> None:
    history = run(tmp_path, 2, every=2)
    assert [bool(entry["metrics"]) for entry in history] == [False, True]


def test_resuming_replaces_later_entries(tmp_path: Path) -> None:
    before = run(tmp_path, 3)
    after = run(tmp_path, 2, resume=1)
    assert [entry["epoch"] for entry in after] == [1, 2]
    assert after[0] == before[0]
    assert after[1]["lr"] == [0.1, 0.01]  # from the new run
    assert before[1]["lr"] == pytest.approx([0.01, 0.001])
    assert [entry["epoch"] for entry in run(tmp_path, 1)] == [1]


def test_a_loss_that_is_not_finite_is_null_and_still_drawn(tmp_path: Path) -> None:
    history = run(tmp_path, 2, output_transform=lambda output: math.nan)
    assert [entry["loss"] for entry in history] == [None, None]


def test_metrics_come_from_the_trainer_without_an_evaluator(tmp_path: Path) -> None:
    trainer = Engine(lambda engine, batch: {"loss": 1.0})
    LearningCurves(tmp_path).attach(trainer)
    trainer.run([0], max_epochs=1)
    (entry,) = json.loads((tmp_path / "history.json").read_text())
    assert entry == {"epoch": 1, "loss": 1.0, "lr": [], "metrics": {"train_loss": 1.0}}


def test_figure_marks_the_best_epoch_and_names_the_tasks() -> None:
    dice = [0.2, 0.6, 0.5]
    history = [
        {"epoch": i, "loss": 1.0, "lr": [], "metrics": {"dice/mean": d, "dice/wet_amd": d, "dice/skin_lesion": None}}
        for i, d in enumerate(dice, start=1)
    ]
    _, mean_axes, task_axes = draw_history(history).axes
    assert mean_axes.get_title() == "Mean Dice, best 0.6000 in epoch 2"
    assert mean_axes.lines[0].get_ydata().tolist() == dice
    assert [text.get_text() for text in task_axes.get_legend().get_texts()] == ["wet_amd 0.500", "dice/skin_lesion"]
    assert len(draw_history([]).axes) == 3


@pytest.mark.parametrize("content", ["{", "[{}]", '{"epoch": 1}', "3"])
def test_a_foreign_history_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "history.json").write_text(content)
    with pytest.raises(ValueError, match="is not a training history"):
        LearningCurves(tmp_path)
