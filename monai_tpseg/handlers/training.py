"""Small handlers of the training loop: seeds per epoch and gradient clipping."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor

from monai_tpseg.data.cache import CachedCases
from monai_tpseg.networks import hiera_of, unwrap
from monai_tpseg.networks.checkpoint import CheckpointError

__all__ = ["EpochSeed", "FillCache", "FinalValidation", "GradientClipping", "KeepLoss", "StartWeights", "step_taken"]


class EpochSeed:
    """Makes all randomness of an epoch a function of (seed, epoch), so that a resumed run repeats the original draws.

    Args:
        seed: of the run.
        dataset: training data whose random transforms run in this process (`num_workers=0`); workers take their seeds
            from torch's generator, which is seeded as well.
        rank: rank of this process; every rank draws different augmentations.
    """

    def __init__(self, seed: int, dataset: Any = None, rank: int = 0) -> None:
        self.seed, self.dataset, self.rank = seed, dataset, rank

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Seed every generator for the next epoch."""
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch, self.rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self.dataset is not None:
            set_rnd(self.dataset, seed)


class GradientClipping:
    """Clips the gradients of an iteration to a maximum total norm.

    The iteration and its norm before clipping, a scalar tensor, are kept in `engine.state.gradient_norm`.

    Args:
        max_norm: maximum norm; 0 disables clipping.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        if max_norm < 0:
            raise ValueError(f"max_norm must be 0 or more, got {max_norm}.")
        self.max_norm = max_norm

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        if self.max_norm:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip before the optimiser's step; scaled gradients are unscaled first."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)
        engine.state.gradient_norm = engine.state.iteration, norm


def step_taken(engine: Any) -> Tensor | None:
    """Return whether the optimiser's step of an iteration is valid, on the device; None if unknown.

    Args:
        engine: a trainer, at `MODEL_COMPLETED`. Under a `GradScaler`, steps with non-finite gradients are skipped;
            without one, the norm from `GradientClipping` decides.
    """
    left: tuple[int, Tensor] | None = getattr(engine.state, "gradient_norm", None)
    if left is not None and left[0] == engine.state.iteration:
        return left[1].isfinite()
    if engine.scaler is None:
        return None
    gradients = [p.grad for p in engine.network.parameters() if p.grad is not None]
    return torch.stack([gradient.sum().isfinite() for gradient in gradients]).all()


class FillCache:
    """Fills `CachedCases` at the start of a run, so that an unreadable file stops the run, not its setup.

    Args:
        datasets: the data sets to fill.
    """

    def __init__(self, datasets: Sequence[CachedCases]) -> None:
        self.datasets = list(datasets)

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Fill every data set not yet filled."""
        for dataset in self.datasets:
            dataset.fill()


class KeepLoss:
    """Keeps only the loss of an iteration's output, in the form that MONAI's trackers expect.

    Feature maps and side outputs are thus freed before the next iteration. If `StopOnDivergence` has read the loss, its
    float value is kept, so that no later handler waits for a GPU. Attach it after the handlers that use the outputs.
    """

    def attach(self, engine: Any) -> None:
        """Attach to a trainer that does not decollate."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Replace the output by `[{"loss": loss}]`."""
        loss: Tensor = engine.state.output[CommonKeys.LOSS].detach()
        read: tuple[int, float] | None = getattr(engine.state, "loss_read", None)
        if read is not None and read[0] == engine.state.iteration:
            loss = torch.tensor(read[1], dtype=loss.dtype)
        engine.state.output = [{CommonKeys.LOSS: loss}]


class FinalValidation:
    """Validates after the last epoch if the interval of MONAI's `ValidationHandler` skips it.

    Args:
        validator: evaluator to run.
        interval: epochs between two validations.
    """

    def __init__(self, validator: Any, interval: int) -> None:
        self.validator, self.interval = validator, interval

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Run the validator if this epoch is the last and was not validated."""
        if engine.state.epoch == engine.state.max_epochs and engine.state.epoch % self.interval:
            self.validator.run(engine.state.epoch)


class StartWeights:
    """Ensures that no training runs on a frozen, randomly initialised trunk.

    The bundle's `run` loads weights beforehand; other entry points to a trainer (federated clients, `create_workflow`)
    do not. A network still at its initial weights is therefore loaded here; if it is frozen and there are no weights,
    the training stops.

    Args:
        network: TP-Seg or K-Prism; networks without a SAM 2 trunk are left unchanged.
        load: called without arguments to load weights, or None if there are none.

    Raises:
        CheckpointError: at the start of a run with a frozen trunk and no loaded weights.
    """

    def __init__(self, network: Any, load: Callable[[], None] | None = None) -> None:
        self.network, self.load = unwrap(network), load

    def attach(self, engine: Any) -> None:
        """Attach to a trainer, before the handler that resumes."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Load missing weights, or stop the training."""
        hiera = hiera_of(self.network)
        if hiera is None or not hiera.trunk_is_random:
            return
        if self.load is not None:
            self.load()
        if hiera.frozen and hiera.trunk_is_random:
            raise CheckpointError(
                "freeze_encoder=true, but nothing was loaded into the trunk: give encoder_checkpoint or checkpoint, "
                "or train the trunk too with freeze_encoder=false."
            )
