"""Handlers that update the prototypes and ramp their vote."""

from __future__ import annotations

from typing import Any

from ignite.engine import Events
from monai.engines.utils import IterationEvents

from monai_tpseg.handlers.training import step_taken
from monai_tpseg.keys import LABEL, PRED, TASK
from monai_tpseg.networks import TPSeg, unwrap

__all__ = ["PrototypeUpdate", "ReinforcementRamp"]


class PrototypeUpdate:
    """Moves the prototypes of the batch's tasks after each training iteration, equations (12) and (13).

    Under `torch.distributed`, every rank gets the prototypes of the combined batch. Iterations with a step skipped by
    `GradScaler`, or with non-finite gradients, move nothing.
    """

    def attach(self, engine: Any) -> None:
        """Attach to a trainer that does not decollate."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Update after an iteration; a network without prototypes is left unchanged."""
        network, label = unwrap(engine.network), engine.state.output[LABEL]
        if not isinstance(network, TPSeg):
            return
        features, task = engine.state.output[PRED].features, engine.state.batch[TASK]
        network.update_prototypes(features, label, task, step_taken(engine))


class ReinforcementRamp:
    """Raises lambda_p of equation (11) from 0 to its value over the first part of the training.

    Randomly drawn prototypes vote at nearly full strength on every pixel. When training from scratch, the ramp
    suppresses this noise until the prototypes have been updated; with a pre-trained encoder, the paper uses no ramp.

    Args:
        network: TP-Seg, its decoders at their final lambda_p; other networks are left unchanged.
        fraction: fraction of all iterations over which it rises, in (0, 1]; 0 sets the final value from the start.
        max_epochs: epochs of the whole training; default: the trainer's, which federated rounds raise step by step.
        final: lambda_p at the end; default: the decoders' current value.
    """

    def __init__(
        self, network: Any, fraction: float = 0.1, max_epochs: int | None = None, final: float | None = None
    ) -> None:
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"fraction must be in [0, 1], got {fraction}.")
        inner = unwrap(network)
        self.decoders = inner.pgtds if isinstance(inner, TPSeg) else []
        self.final = [float(pgtd.reinforcement if final is None else final) for pgtd in self.decoders]
        self.fraction, self.max_epochs = fraction, max_epochs

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Set lambda_p for the next iteration."""
        total = (self.max_epochs or engine.state.max_epochs) * engine.state.epoch_length * self.fraction
        share = min(1.0, engine.state.iteration / total) if total else 1.0
        for pgtd, final in zip(self.decoders, self.final, strict=True):
            pgtd.reinforcement.fill_(share * final)
