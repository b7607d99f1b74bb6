"""Weights into the network when an engine starts; MONAI's `CheckpointLoader` reads pickled files only."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from monai_tpseg.networks.checkpoint import load_weights

__all__ = ["WeightsLoader"]


class WeightsLoader:
    """Fill a network from a `.pt` or `.safetensors` file, strictly and without running code of the file.

    Args:
        checkpoint: a flat state dict, as training writes it.
        network: to fill, wherever it lies.
    """

    def __init__(self, checkpoint: str | Path, network: nn.Module) -> None:
        self.checkpoint, self.network = Path(checkpoint), network

    def attach(self, engine: Engine) -> None:
        """Load when `engine` starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load now.

        Raises:
            CheckpointError: the file is missing, damaged or does not fit.
        """
        load_weights(self.network, self.checkpoint)
