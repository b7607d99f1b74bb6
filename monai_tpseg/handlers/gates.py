"""Handlers for the split gate: its schedule, and a picture of each task's split position."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.distributed import get_rank
from ignite.engine import Events
from matplotlib.figure import Figure

from monai_tpseg.files import write_atomically
from monai_tpseg.networks import TPSeg, unwrap
from monai_tpseg.networks.route import SplitGate

__all__ = ["GatePicture", "GateSchedule", "draw_gates"]

logger = logging.getLogger(__name__)


def _gate(network: Any) -> SplitGate | None:
    inner = unwrap(network)
    return inner.encoder.gate if isinstance(inner, TPSeg) else None


class GateSchedule:
    """Lowers the gate's temperature linearly over the training and hardens the gates for its last part.

    Hard gates are 0 or 1, and the zero gradient leaves the split vector unchanged (`TaskAdamW`), so the final
    validation runs exactly what inference runs.

    Args:
        network: TP-Seg; networks without a gate (a single kind of route) are left unchanged.
        start: temperature at the first iteration.
        end: temperature at the last.
        hard_fraction: fraction of iterations, at the end, with hard gates, in [0, 1].
        max_epochs: epochs of the whole training; default: the trainer's, which federated rounds raise step by step.
    """

    def __init__(
        self,
        network: Any,
        start: float = 1.0,
        end: float = 0.3,
        hard_fraction: float = 0.2,
        max_epochs: int | None = None,
    ) -> None:
        if not (start > 0 and end > 0 and 0 <= hard_fraction <= 1):
            raise ValueError(
                f"Temperatures must be positive and hard_fraction in [0, 1], got {start}, {end}, {hard_fraction}."
            )
        self.gate = _gate(network)
        self.start, self.end, self.hard_fraction, self.max_epochs = start, end, hard_fraction, max_epochs

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        if self.gate is not None:
            engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Set temperature and hardness for the next iteration."""
        assert self.gate is not None
        total = (self.max_epochs or engine.state.max_epochs) * engine.state.epoch_length
        done = (engine.state.iteration - 1) / max(1, total - 1)
        self.gate.set_temperature(self.start + (self.end - self.start) * min(1.0, done))
        self.gate.set_hard(engine.state.iteration > total * (1 - self.hard_fraction))


def draw_gates(table: torch.Tensor, positions: Sequence[int], tasks: Sequence[str]) -> Figure:
    """Draw the gate of every task and block, with each task's split position b* marked.

    Args:
        table: w, (T, n) in [0, 1].
        positions: b* of each task, blocks numbered from 1.
        tasks: T names.
    """
    count, blocks = table.shape
    figure = Figure(figsize=(max(5.0, 0.22 * blocks + 2.5), 0.42 * count + 1.6), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        table.numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=(0.5, blocks + 0.5, count - 0.5, -0.5)
    )
    for row, position in enumerate(positions):
        axes.plot([position - 0.5] * 2, [row - 0.45, row + 0.45], color="crimson", linewidth=2.5)
    axes.set_yticks(range(count), [f"{task}  b* = {p}" for task, p in zip(tasks, positions, strict=True)])
    axes.set_xlabel("block")
    figure.supxlabel(
        "Gate near 0: the block uses the adapter that all tasks share.\n"
        "Near 1: it uses the task's own. Red: b*, the first that does.",
        fontsize="medium",
    )
    figure.colorbar(image, ax=axes, label="gate: 0 shared, 1 task")
    return figure


class GatePicture:
    """Logs every task's split position after each epoch and draws `gates.png`.

    Args:
        network: TP-Seg.
        task_names: names in row order.
        output_dir: folder of the picture.
        summary_writer: TensorBoard writer for the positions, or None.
    """

    def __init__(self, network: Any, task_names: Sequence[str], output_dir: str, summary_writer: Any = None) -> None:
        self.gate = _gate(network)
        self.task_names, self.path, self.summary_writer = (
            tuple(task_names),
            Path(output_dir) / "gates.png",
            summary_writer,
        )

    def attach(self, engine: Any) -> None:
        """Attach to a trainer; no effect on ranks other than 0."""
        if self.gate is not None and get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Log and draw the current gates."""
        assert self.gate is not None
        positions = self.gate.split_positions().tolist()
        named = dict(zip(self.task_names, positions, strict=True))
        logger.info("Split positions: %s", ", ".join(f"{name} {position}" for name, position in named.items()))
        engine.state.metrics.update({f"split/{name}": position for name, position in named.items()})
        if self.summary_writer is not None:
            for name, position in named.items():
                self.summary_writer.add_scalar(f"split/{name}", position, engine.state.epoch)
        with torch.no_grad():
            table = self.gate.table().cpu()
        buffer = io.BytesIO()
        draw_gates(table, positions, self.task_names).savefig(buffer, format="png", dpi=120)
        write_atomically(self.path, buffer.getvalue())
