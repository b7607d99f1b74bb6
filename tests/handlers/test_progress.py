from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_tpseg.handlers.progress import TrainProgress, training_loss

LOGGER = "monai_tpseg.handlers.progress"


def trainer() -> Engine:
    return Engine(lambda engine, batch: [{"loss": float(batch)}])


@pytest.mark.parametrize(("losses", "steps"), [([1, 2, 6], "3 iterations"), ([3], "1 iteration")])
def test_a_log_file_gets_one_line_per_epoch(losses: list[int], steps: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = trainer()
    TrainProgress(terminal=False).attach(engine)
    with caplog.at_level(logging.INFO, LOGGER):
        engine.run(losses, max_epochs=2)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"Epoch {epoch}/2: {steps}, mean loss 3.0000, 0:00:00 remaining" for epoch in (1, 2)]


def test_a_terminal_gets_a_bar_and_no_lines(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = trainer()
    TrainProgress(terminal=True, interval=2).attach(engine)
    with caplog.at_level(logging.INFO, LOGGER):
        engine.run([1, 2, 6], max_epochs=2)
    bar = capsys.readouterr().err
    assert "Epoch 2/2: 100%" in bar
    assert "6/6" in bar
    assert "loss=3.0000" in bar
    assert not caplog.records


def test_a_resumed_run_starts_where_it_left(capsys: pytest.CaptureFixture[str]) -> None:
    engine = trainer()

    @engine.on(Events.STARTED)
    def load(engine: Any) -> None:
        engine.state.epoch, engine.state.iteration = 3, 9

    TrainProgress(terminal=True).attach(engine)
    engine.run([1, 2, 6], max_epochs=4)
    bar = capsys.readouterr().err
    assert "Epoch 4/4" in bar
    assert "12/12" in bar
    assert "0/12" not in bar


def test_remaining_time_follows_the_pace(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clock = trainer(), [100.0]
    monkeypatch.setattr("monai_tpseg.handlers.progress.time.monotonic", lambda: clock[0])
    TrainProgress(terminal=False).attach(engine)

    @engine.on(Events.ITERATION_STARTED)
    def pass_a_minute() -> None:
        clock[0] += 60

    with caplog.at_level(logging.INFO, LOGGER):
        engine.run([1, 2], max_epochs=3)
    assert [line.split()[-2] for line in caplog.messages] == ["0:04:00", "0:02:00", "0:00:00"]


@pytest.mark.parametrize(("enabled", "rank"), [(False, 0), (True, 1)])
def test_silent_when_disabled_and_on_other_ranks(enabled: bool, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_tpseg.handlers.progress.get_rank", lambda: rank)
    engine = trainer()
    TrainProgress(enabled).attach(engine)
    assert not engine._event_handlers[Events.EPOCH_COMPLETED]


def test_the_loss_comes_from_either_form_of_the_output() -> None:
    loss = torch.ones((), requires_grad=True)
    assert training_loss([{"loss": 0.5}, {"loss": 0.5}]) == 0.5
    assert not training_loss({"loss": loss}).requires_grad


def test_interval_is_checked() -> None:
    with pytest.raises(ValueError, match="interval must be 1 or more"):
        TrainProgress(interval=0)
