"""Handlers for the files of a run: `model.pt` (best weights) and `last.pt` (everything needed to resume)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ignite.distributed import get_rank
from ignite.engine import Events

from monai_tpseg.files import complete, sweep
from monai_tpseg.handlers.average import WeightAverage
from monai_tpseg.networks import TPSeg, unwrap
from monai_tpseg.networks.checkpoint import (
    CheckpointError,
    content_sha256,
    load_strictly,
    read_checkpoint,
    write_checkpoint,
)
from monai_tpseg.networks.weights_info import WeightsInfo, info_path, save_weights
from monai_tpseg.words import choose, count

__all__ = ["LAST", "MODEL", "RunCheckpoint"]

logger = logging.getLogger(__name__)

MODEL = "model.pt"
LAST = "last.pt"


class RunCheckpoint:
    """Write `model.pt` with `model.json` when validation improves, and `last.pt` after every epoch, for resuming.

    The best epoch has the highest metric among the epochs with hard gates, whose inference equals validation; epochs
    with soft gates count only as long as there is none. `last.pt` contains network, optimiser, schedules, counters and
    a digest of them, which is verified on resuming. With `EpochSeed`, a resumed run continues exactly, with the same
    batches and losses (on a GPU up to rounding, since two runs there are not bit-identical). Files are written
    atomically; partial files of killed runs are removed. Attach it after the validation handlers.

    Args:
        output_dir: folder of the files.
        info: description of the weights for `model.json`.
        evaluator: engine whose metric `metric` selects the best epoch; None keeps the latest weights.
        metric: name in `evaluator.state.metrics`; higher is better.
        resume: "true" continues from `last.pt`, which must exist; "auto" continues if it exists; "false" starts anew.
        lr_scheduler: schedule to save and restore, or None.
        average: moving average whose weights are saved as `model.pt` instead of the network's, or None; it is
            attached as well.

    Raises:
        ValueError: `resume` has another value.
        CheckpointError: on attaching, `last.pt` is missing, damaged, or of another run.
    """

    def __init__(
        self,
        output_dir: str,
        info: WeightsInfo,
        evaluator: Any = None,
        metric: str = "dice/mean",
        resume: str | bool = False,
        lr_scheduler: Any = None,
        average: WeightAverage | None = None,
    ) -> None:
        self.folder, self.info, self.evaluator, self.metric = Path(output_dir), info, evaluator, metric
        self.lr_scheduler, self.average = lr_scheduler, average
        mode = str(resume).lower()
        if mode not in ("true", "false", "auto"):
            raise ValueError(f"Unknown resume {resume!r}; {choose(resume, ('true', 'false', 'auto'))}.")
        self.resume = mode == "true" or (mode == "auto" and (self.folder / LAST).is_file())
        self.best: dict[str, Any] = {"epoch": 0, "hard": False, "value": float("-inf")}
        self._validated = False

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        if self.average is not None:
            self.average.attach(engine)  # starts the average anew, before that of a resumed run is loaded
        engine.add_event_handler(Events.STARTED, self.sweep)
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.load)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._mark)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def sweep(self, engine: Any) -> None:
        """Remove partial files of a run that was killed while writing."""
        if get_rank() == 0:
            left = sum(sweep(self.folder / name) for name in (LAST, MODEL, info_path(MODEL).name))
            if left:
                logger.info("Removed unfinished files of a run that was killed: %d", left)

    def _mark(self, engine: Any) -> None:
        self._validated = True

    def save(self, engine: Any) -> None:
        """Write the weights if this epoch is the best so far, and the state of the run."""
        improved = self._improved(engine)
        if get_rank() != 0:
            return
        if improved:
            self._write_model(engine)
        self._write_last(engine, unwrap(engine.network))

    def finish(self, engine: Any) -> None:
        """Write the last weights if validation has selected none."""
        if get_rank() == 0 and self.evaluator is not None and not self.best["epoch"]:
            self._write_model(engine)

    def _write_model(self, engine: Any) -> None:
        value = self.best["value"] if self.best["epoch"] else None
        training = {**self.info.training, "epoch": engine.state.epoch, self.metric: value}
        kept = engine.network if self.average is None else self.average.network
        save_weights(self.folder / MODEL, unwrap(kept).state_dict(), replace(self.info, training=training))

    def _improved(self, engine: Any) -> bool:
        """Return whether this epoch is the best so far, and record it."""
        if self.evaluator is None:
            return True
        if not self._validated:
            return False
        self._validated = False
        value, hard = float(self.evaluator.state.metrics[self.metric]), _runs_hard(engine.network)
        if not (hard, value) > (self.best["hard"], self.best["value"]):
            return False
        self.best = {"epoch": engine.state.epoch, "hard": hard, "value": value}
        return True

    def _write_last(self, engine: Any, network: torch.nn.Module) -> None:
        state = {
            "network": network.state_dict(),
            "optimizer": engine.optimizer.state_dict(),
            "lr_scheduler": None if self.lr_scheduler is None else self.lr_scheduler.state_dict(),
            "scaler": None if engine.scaler is None else engine.scaler.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "max_epochs": engine.state.max_epochs,
            "tasks": list(self.info.tasks),
            "best": self.best,
        }
        with complete(self.folder / LAST) as part:
            write_checkpoint({**state, "sha256": content_sha256(state)}, part)

    def load(self, engine: Any) -> None:
        """Restore engine, network, optimiser and schedule to the end of the last complete epoch."""
        path = self.folder / LAST
        state = read_checkpoint(path)
        needed = ("network", "optimizer", "epoch", "iteration", "epoch_length", "max_epochs", "tasks", "best")
        missing = [key for key in needed if key not in state]
        if missing:
            raise CheckpointError(f"'{path}' is not the state of a run: it has no {', '.join(missing)}.")
        digest = state.pop("sha256", None)
        if digest is None:
            logger.warning("'%s' has no digest because an older version wrote it: damage cannot be detected.", path)
        elif digest != content_sha256(state):
            raise CheckpointError(
                f"'{path}' is damaged: its digest differs; start from model.pt with --checkpoint in a new --output_dir."
            )
        if state["epoch_length"] != engine.state.epoch_length:
            raise CheckpointError(
                f"'{path}' has {count(state['epoch_length'], 'iteration')} an epoch, this run "
                f"{engine.state.epoch_length}: "
                "data, batch_size or the number of processes changed; resume with the same ones."
            )
        if state["max_epochs"] != engine.state.max_epochs:
            raise CheckpointError(
                f"'{path}' is from a run over {count(state['max_epochs'], 'epoch')}, this one has "
                f"{engine.state.max_epochs}: the schedules would jump; resume with the "
                "same max_epochs, or start a new run from model.pt."
            )
        if tuple(state["tasks"]) != self.info.tasks:
            raise CheckpointError(f"'{path}' is from a run on {', '.join(state['tasks'])}; resume with the same tasks.")
        load_strictly(unwrap(engine.network), state["network"], str(path), "Resume with the settings of that run.")
        if self.average is not None:
            try:
                self.average.load_state_dict(state.get("average", {}))
            except ValueError as error:
                raise CheckpointError(f"'{path}': {error}.") from error
        engine.optimizer.load_state_dict(state["optimizer"])
        if self.lr_scheduler is not None and state["lr_scheduler"] is not None:
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if engine.scaler is not None and state["scaler"] is not None:
            engine.scaler.load_state_dict(state["scaler"])
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self.best = dict(state["best"])
        logger.info(
            "Resumed after epoch %d of %d (best so far: %s)", state["epoch"], engine.state.max_epochs, self.best
        )


def _runs_hard(network: Any) -> bool:
    """Return whether each block runs a single route, as in inference; True without a split gate."""
    inner = unwrap(network)
    return not isinstance(inner, TPSeg) or inner.encoder.gate is None or inner.encoder.gate.is_hard
