"""Short training of one task's rows on a few exemplars, with everything else frozen."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.transforms import Compose, RandAffined, RandFlipd, RandScaleIntensityd, RandShiftIntensityd
from torch import Tensor
from torch.utils.data import RandomSampler

from monai_tpseg.engines.prepare_batch import PrepareTaskBatch
from monai_tpseg.handlers import GradientClipping, KeepLoss, TrainProgress
from monai_tpseg.inferers import DeepSupervisionInferer
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.task_rows import NewRow

__all__ = ["TuningError", "tune_row"]

_BATCH = 4  # exemplars a step, drawn anew


class TuningError(ValueError):
    """A tuning that cannot continue; the message is one line."""


def tune_row(
    net: TPSeg,
    row: int,
    image: Tensor,
    label: Tensor,
    steps: int,
    lr: float = 1e-3,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> None:
    """Train the adapters, heads and fusion of one task; the logits of the other tasks stay bit-identical.

    Exemplars are randomly flipped, rotated, scaled and brightened. On a CPU, the same seed gives the same rows.

    Args:
        net: TP-Seg; frozen, in evaluation mode and on `device` afterwards.
        row: row of the task.
        image: (K, 3, H, W), exemplars as network input.
        label: (K, 1, H, W) in {0, 1}.
        steps: steps of the optimiser.
        lr: learning rate of AdamW.
        seed: random seed.
        device: device of the training.
        progress: show a bar, or a final line without a terminal.

    Raises:
        TuningError: the loss is not finite; the network keeps its previous rows.
    """
    own = NewRow(net, row).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trainer = SupervisedTrainer(
            device=torch.device(device),
            max_epochs=1,
            train_data_loader=_loader(image, label, row, steps, seed),
            network=own,
            optimizer=torch.optim.AdamW(own.rows.parameters(), lr, weight_decay=0.0),
            loss_function=TPSegLoss(),
            inferer=DeepSupervisionInferer(),
            prepare_batch=PrepareTaskBatch(),
            train_handlers=[_StopOnNaN(), GradientClipping(1.0), KeepLoss(), TrainProgress(progress)],
            decollate=False,
            optim_set_to_none=True,
        )
        trainer.run()
    own.write()


def _loader(image: Tensor, label: Tensor, row: int, steps: int, seed: int) -> DataLoader:
    cases = [{IMAGE: x, LABEL: y, TASK: torch.tensor(row)} for x, y in zip(image.cpu(), label.cpu(), strict=True)]
    both, reach = (IMAGE, LABEL), 0.08 * min(image.shape[-2:])
    augment = Compose([
        RandFlipd(both, prob=0.5, spatial_axis=1),
        RandFlipd(both, prob=0.5, spatial_axis=0),
        RandAffined(both, prob=0.7, rotate_range=0.5, scale_range=(0.2, 0.2), translate_range=reach,
                    mode=("bilinear", "nearest"), padding_mode="border"),
        RandScaleIntensityd(IMAGE, factors=0.25, prob=0.5),
        RandShiftIntensityd(IMAGE, offsets=0.3, prob=0.5),
    ])  # fmt: skip
    augment.set_random_state(seed)
    drawn = RandomSampler(cases, replacement=True, num_samples=steps * _BATCH)
    return DataLoader(Dataset(cases, augment), batch_size=_BATCH, sampler=drawn, num_workers=0)


class _StopOnNaN:
    """Stops the tuning before an optimiser step on a non-finite loss."""

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        loss = float(engine.state.output["loss"].detach())
        if not math.isfinite(loss):
            step = engine.state.iteration
            raise TuningError(f"The loss is {loss} at step {step}; use a lower --lr, or check the exemplars.")
