"""A handler that stops a training with a non-finite or diverging loss and saves the batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.distributed import get_rank
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_tpseg.files import complete
from monai_tpseg.keys import IMAGE, LABEL, SOURCE, TASK
from monai_tpseg.networks.checkpoint import write_checkpoint
from monai_tpseg.words import count

__all__ = ["BAD_BATCH", "DivergenceError", "StopOnDivergence"]

BAD_BATCH = "bad_batch.pt"
"""Name of the file in the output folder that holds the batch; ranks other than 0 add their number."""

_SHOWN = 4  # files that the message names


class DivergenceError(RuntimeError):
    """A training that cannot continue; the message is one line with the reason, the file of the batch and advice."""


class StopOnDivergence:
    """Stops a training before the optimiser step of a bad iteration, and saves the batch of that iteration.

    An iteration is bad when

    - its loss is not finite;
    - a gradient is not finite while the loss is. Under a `GradScaler` the step is skipped and the scale lowered, which
      is how fp16 finds its scale; only `max_skips` of these in a row are bad;
    - it is the last of `patience` iterations in a row whose loss was above `factor` times the lowest mean loss of
      `patience` consecutive iterations so far (of all so far, while they are fewer). That mean counts as 0.1 at
      least, so small losses may jump.

    Weights, optimiser and prototypes keep the state of the last good iteration, `last.pt` and `model.pt` that of the
    last complete epoch. Every rank of a distributed training stops in the same iteration; a rank with a finite loss
    reports this. Reading the loss synchronises with the device once per iteration; the iteration and its loss, a float,
    are kept in `engine.state.loss_read`.

    The file holds, for `torch.load(weights_only=True)`: `image` (B, 3, H, W), `label` (B, 1, H, W) and `task` (B,)
    where the batch has them, `task_names`, `files` (paths of the images, from the batch's `source`), `epoch`,
    `iteration`, `loss`, `gradient_norm`, `losses` (of the iterations before, oldest first) and `reason`.

    Args:
        output_dir: folder of the file.
        task_names: names in row order.
        factor: above 1.
        patience: iterations, 1 or more.
        max_skips: steps that a `GradScaler` may skip in a row, 1 or more.

    Raises:
        ValueError: an argument is out of range.
        DivergenceError: in the training, at a bad iteration.
    """

    def __init__(
        self, output_dir: str, task_names: Sequence[str], factor: float = 10.0, patience: int = 10, max_skips: int = 20
    ) -> None:
        if not factor > 1:
            raise ValueError(f"factor must be above 1, got {factor}.")
        for name, number in (("patience", patience), ("max_skips", max_skips)):
            if number < 1:
                raise ValueError(f"{name} must be 1 or more iterations, got {number}.")
        self.folder, self.task_names = Path(output_dir), tuple(task_names)
        self.factor, self.patience, self.max_skips = factor, patience, max_skips
        self._losses: deque[float] = deque(maxlen=patience)
        self._lowest = math.inf
        self._above = self._skips = 0

    def attach(self, engine: Any) -> None:
        """Attach to a trainer, after the handler that clips gradients."""
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def _forget(self, engine: Any) -> None:
        self._losses.clear()
        self._lowest, self._above, self._skips = math.inf, 0, 0

    def __call__(self, engine: Any) -> None:
        """Check the iteration after its backward pass and before its optimiser step."""
        norm = _norm(engine)
        own, loss, finite = _on_all_ranks(engine.state.output["loss"].detach(), norm)
        engine.state.loss_read = engine.state.iteration, own
        reason = self._reason(loss, finite, engine.scaler is not None)
        if reason:
            if not math.isfinite(loss) and math.isfinite(own):
                reason = "the loss of another process is not finite"
            raise DivergenceError(self._save(engine, own, float(norm), reason))
        if finite:
            self._remember(loss)

    def _reason(self, loss: float, finite: bool, scaled: bool) -> str:
        """Return the reason why an iteration is bad, or ""."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        self._skips = 0 if finite else self._skips + 1
        if not finite and not scaled:
            return "a gradient is not finite"
        if self._skips >= self.max_skips:
            return f"the gradients of {count(self._skips, 'iteration')} in a row overflowed in fp16"
        limit = self.factor * max(self._lowest, 0.1)
        self._above = self._above + 1 if loss > limit else 0
        if self._above >= self.patience:
            return f"the loss was above {limit:.3g} for {count(self._above, 'iteration')} and is {loss:.3g} now"
        return ""

    def _remember(self, loss: float) -> None:
        self._losses.append(loss)
        mean = sum(self._losses) / len(self._losses)
        self._lowest = min(self._lowest, mean)

    def _save(self, engine: Any, loss: float, norm: float, reason: str) -> str:
        """Write the batch; return the message."""
        state, rank = engine.state, get_rank()
        path = self.folder / (BAD_BATCH if rank == 0 else BAD_BATCH.replace(".pt", f"_rank{rank}.pt"))
        files = _files(state.batch)
        content = {
            **{key: _plain(state.batch[key]) for key in (IMAGE, LABEL, TASK) if key in state.batch},
            "task_names": list(self.task_names),
            "files": files,
            "epoch": state.epoch,
            "iteration": state.iteration,
            "loss": loss,
            "gradient_norm": norm,
            "losses": list(self._losses),
            "reason": reason,
        }
        with complete(path) as part:
            write_checkpoint(content, part)
        shown = ", ".join(Path(file).name for file in files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
        return (
            f"Training stopped in epoch {state.epoch}, iteration {state.iteration}: {reason}. Its batch is in '{path}' "
            f"({shown or 'files unknown'}). Check the data with tpseg check, or use a lower lr; the weights of the "
            "last complete epoch are kept."
        )


def _norm(engine: Any) -> Tensor:
    """The norm from `GradientClipping` for this iteration, or one computed here."""
    left: tuple[int, Tensor] | None = getattr(engine.state, "gradient_norm", None)
    if left is not None and left[0] == engine.state.iteration:
        return left[1].detach()
    if engine.scaler is not None:
        engine.scaler.unscale_(engine.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), math.inf).detach()
    engine.state.gradient_norm = engine.state.iteration, norm
    return norm


def _on_all_ranks(loss: Tensor, norm: Tensor) -> tuple[float, float, bool]:
    """Return this rank's loss, the mean loss over the ranks, and whether every gradient is finite."""
    own = _plain(loss).float().reshape(1)
    finite = torch.isfinite(norm.to(own.device)).float().reshape(1)
    values = torch.cat([own, own, finite])
    if dist.is_available() and dist.is_initialized():
        shared = values[1:].clone()
        dist.all_reduce(shared)
        values[1:] = shared / dist.get_world_size()
    mine, mean, share = values.tolist()
    return mine, mean, share == 1.0


def _files(batch: Mapping[str, Any]) -> list[str]:
    """Paths of the images; [] for a batch that does not carry them."""
    return [str(path) for path in batch.get(SOURCE, ())]


def _plain(tensor: Tensor) -> Tensor:
    """Copy without MONAI's metadata, which `weights_only` refuses."""
    plain: Tensor = convert_to_tensor(tensor, track_meta=False)
    return plain.detach().clone()
