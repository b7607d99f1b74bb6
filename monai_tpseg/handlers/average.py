"""An exponential moving average of the weights, validated and saved in place of the latest weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_tpseg.handlers.training import step_taken
from monai_tpseg.networks import unwrap

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps `decay * average + (1 - decay) * weights` after each iteration; buffers are copied.

    An iteration whose step a `GradScaler` skips leaves the averaged weights as they are.

    The average starts at the first weights with a shorter memory, (1 + n) / (10 + n) after n iterations, to forget the
    random initialisation. `network` is the one to validate and save: the average or, with a decay of 0, the network
    itself, in which case this handler does nothing.

    Args:
        network: under training, bare or wrapped for parallel training.
        decay: memory in [0, 1); 0.999 averages over about 1000 iterations, 0 is off.

    Raises:
        ValueError: `decay` is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), such as 0.999, or 0 for no average; got {decay}.")
        self.decay = decay
        self.updates = 0
        self._source = unwrap(network)
        self.network = copy.deepcopy(self._source).requires_grad_(False).eval() if decay else network

    def attach(self, engine: Any) -> None:
        """Attach to a trainer; `RunCheckpoint` does so for its own."""
        if self.decay:
            engine.add_event_handler(Events.STARTED, self.restart)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def restart(self, engine: Any = None) -> None:
        """Restart from the current weights."""
        self.updates = 0
        self.network.load_state_dict(self._source.state_dict())

    @torch.no_grad()
    def __call__(self, engine: Any = None) -> None:
        """Update the average with the weights after an iteration."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average: list[Tensor] = list(self.network.parameters())
        newest: list[Tensor] = list(self._source.parameters())
        taken = None if getattr(engine, "scaler", None) is None else step_taken(engine)
        if taken is None:
            torch._foreach_lerp_(average, newest, 1 - decay)
        else:  # decided on the device, without waiting for it
            change = list(torch._foreach_sub(newest, average))
            torch._foreach_mul_(change, (1 - decay) * taken)
            torch._foreach_add_(average, change)
        for kept, current in zip(self.network.buffers(), self._source.buffers(), strict=True):
            kept.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run: the average and its number of iterations; empty without an average."""
        return {"network": self.network.state_dict(), "updates": self.updates} if self.decay else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`.

        Raises:
            ValueError: only one of the saved run and this one has an average.
        """
        if bool(state) != bool(self.decay):
            raise ValueError("the run to resume was started with a different ema; resume with the same")
        if state:
            self.network.load_state_dict(state["network"])
            self.updates = state["updates"]
