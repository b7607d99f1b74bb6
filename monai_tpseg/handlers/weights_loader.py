"""Handlers that load weights into a network and its fast form into an engine at the start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from monai_tpseg.networks.checkpoint import load_weights
from monai_tpseg.networks.fast.inference_form import fast_form

__all__ = ["FastNetwork", "WeightsLoader"]

logger = logging.getLogger(__name__)


class WeightsLoader:
    """Fill a network from a `.pt` or `.safetensors` file, strictly and without running code of the file.

    MONAI's `CheckpointLoader` reads pickled files only.

    Args:
        checkpoint: a flat state dict, as written by training.
        network: to fill, on any device.
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


class FastNetwork:
    """Let an evaluator run the fast form of its network, see `fast_form`; a network without one is left unchanged.

    Attach it after the handler that loads the weights, since they are copied. The trained network is unchanged.

    Args:
        network: whose weights have been loaded.
        amp: the precision of the fast form, "none", "bf16" or "fp16".
        enabled: False does nothing.
    """

    def __init__(self, network: nn.Module, amp: str = "none", enabled: bool = True) -> None:
        self.network = network
        self.precision = "fp32" if amp == "none" else amp
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Act when `engine` starts."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Replace the network now."""
        engine.network, why_plain = fast_form(self.network, self.precision)
        logger.info("%s Precision: %s.", why_plain or "The network runs in its fast form.", self.precision)
