"""Progress of a training run: a bar in a terminal, a line per epoch in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ignite.distributed import get_rank
from ignite.engine import Events
from torch import Tensor
from tqdm.auto import tqdm

from monai_tpseg.words import count

__all__ = ["CaseProgress", "TrainProgress", "training_loss"]

logger = logging.getLogger(__name__)


def training_loss(output: Any) -> Any:
    """Return the loss in a MONAI trainer's output, decollated or not: a number, or a scalar tensor without gradient."""
    loss = (output[0] if isinstance(output, list) else output)["loss"]
    return loss.detach() if isinstance(loss, Tensor) else loss


class TrainProgress:
    """Shows epoch, iterations, loss and remaining time of a training run on rank 0.

    In a terminal, one bar spans the whole run; elsewhere, each epoch logs one line. The remaining time is estimated
    from the pace of the run so far, or of its resumed part, and so includes validation.

    Args:
        enabled: False shows nothing.
        terminal: whether to draw the bar; by default when standard error is a terminal.
        interval: iterations between two updates of the bar, 1 or more.
        output_transform: maps the trainer's output to the loss, a number or a scalar tensor.

    Raises:
        ValueError: `interval` is below 1.
    """

    def __init__(
        self,
        enabled: bool = True,
        terminal: bool | None = None,
        interval: int = 10,
        output_transform: Callable[[Any], Any] = training_loss,
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be 1 or more iterations, got {interval}.")
        self.enabled = enabled
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.interval = interval
        self.output_transform = output_transform
        self._bar: Any = None
        self._loss: Any = 0.0  # sum over the epoch; stays on the device until it is shown
        self._steps = 0
        self._first_iteration = 0
        self._start = 0.0

    def attach(self, engine: Any) -> None:
        """Attach to a trainer; no effect on ranks other than 0."""
        if not self.enabled or get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _epoch_started(self, engine: Any) -> None:
        self._loss, self._steps = 0.0, 0
        if not self._start:
            # here and not at STARTED, where a checkpoint may still have to set the epoch
            self._start, self._first_iteration = time.monotonic(), engine.state.iteration
            if self.terminal:
                length = engine.state.epoch_length
                total = None if length is None else engine.state.max_epochs * length
                self._bar = tqdm(total=total, initial=engine.state.iteration, unit="it", smoothing=0, leave=True)
        if self._bar is not None:
            self._bar.set_description(f"Epoch {engine.state.epoch}/{engine.state.max_epochs}")

    def _iteration_completed(self, engine: Any) -> None:
        self._loss = self._loss + self.output_transform(engine.state.output)
        self._steps += 1
        if self._bar is not None and engine.state.iteration % self.interval == 0:
            self._advance(engine)

    def _epoch_completed(self, engine: Any) -> None:
        if self._bar is not None:
            self._advance(engine)
            return
        state = engine.state
        line = "Epoch %d/%d: %s, mean loss %.4f, %s remaining"
        steps = count(self._steps, "iteration")
        logger.info(line, state.epoch, state.max_epochs, steps, self._mean_loss(), self._remaining(state))

    def _advance(self, engine: Any) -> None:
        self._bar.set_postfix(loss=f"{self._mean_loss():.4f}", refresh=False)
        self._bar.update(engine.state.iteration - self._bar.n)

    def _mean_loss(self) -> float:
        return float(self._loss) / max(self._steps, 1)

    def _remaining(self, state: Any) -> timedelta:
        """Return the time left at the pace since the run, or its resumed part, began, in whole seconds."""
        pace = (time.monotonic() - self._start) / max(state.iteration - self._first_iteration, 1)
        return timedelta(seconds=round(pace * self._steps * (state.max_epochs - state.epoch)))

    def _close(self, engine: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._start = None, 0.0


class CaseProgress:
    """Shows the number of evaluated cases on rank 0: a bar in a terminal, otherwise a log line every tenth.

    A loader of unknown length may give an upper bound of the number of cases in its attribute `at_most`.

    Args:
        enabled: False shows nothing.
        title: of the activity, shown before the counts.
        terminal: whether to draw the bar; by default when standard error is a terminal.
    """

    def __init__(self, enabled: bool = True, title: str = "evaluate", terminal: bool | None = None) -> None:
        self.enabled, self.title = enabled, title
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self._bar: Any = None

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator; no effect on ranks other than 0."""
        if self.enabled and get_rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
            engine.add_event_handler(Events.COMPLETED, self._close)

    def _advance(self, engine: Any) -> None:
        done = engine.state.iteration
        total = engine.state.epoch_length or getattr(engine.data_loader, "at_most", done)
        if self.terminal:
            if self._bar is None:
                self._bar = tqdm(total=total, unit="case", desc=self.title)
            self._bar.update()
        elif done == total or done % max(1, total // 10) == 0:
            logger.info("%s: %d of %d", self.title, done, total)

    def _close(self, engine: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
