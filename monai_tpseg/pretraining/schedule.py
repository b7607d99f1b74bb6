"""Length of a pretraining on this machine, chosen once and kept for resuming."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from monai_tpseg.engines.masked_pretraining import MaskedInferer, MaskedPixelLoss, draw_hidden
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.masked_autoencoder import MaskedAutoencoder
from monai_tpseg.parsing import read_record
from monai_tpseg.pretraining.pretrain_options import PretrainOptions

__all__ = ["Plan", "make_plan"]

_PLAN = "plan.json"
_EPOCHS = 20  # checkpoints of a pretraining of so many minutes
_SLOWER = 1.3  # a step with its pictures and the optimiser, in passes through the network


@dataclass(frozen=True)
class Plan:
    """A pretraining.

    Attributes:
        epochs: after each, everything that is needed to go on is written.
        cases: pictures that an epoch draws.
        batch: pictures of a step.
        minutes: estimated duration of the steps on this machine in minutes.
    """

    epochs: int
    cases: int
    batch: int
    minutes: float

    @property
    def steps(self) -> int:
        """Of the optimiser, in all."""
        return self.epochs * math.ceil(self.cases / self.batch)


def make_plan(
    request: PretrainOptions, pictures: int, network: MaskedAutoencoder, device: torch.device, out: Path
) -> Plan:
    """Return the plan of a pretraining, that of `out`/plan.json where there is one.

    Args:
        request: minutes or epochs.
        pictures: number of them.
        network: on `device`; a few steps say how long one takes.
        device: device of the training.
        out: folder of the pretraining.
    """
    path = out / _PLAN
    if path.is_file():
        return Plan(**read_record(path, {one.name: (int, float) for one in fields(Plan)}))
    batch = min(request.batch_size, pictures)
    a_step = _seconds_a_step(request, batch, network, device) * _SLOWER
    if request.epochs:
        epochs, cases = request.epochs, pictures
    else:
        steps = max(1, int(60 * request.minutes / a_step))
        epochs = min(_EPOCHS, steps)
        cases = steps // epochs * batch
    plan = Plan(epochs, cases, batch, epochs * math.ceil(cases / batch) * a_step / 60)
    write_atomically(path, (json.dumps(asdict(plan), indent=1) + "\n").encode())
    return plan


def _seconds_a_step(request: PretrainOptions, batch: int, network: MaskedAutoencoder, device: torch.device) -> float:
    image = torch.rand(batch, 3, *network.image_size, device=device)
    hidden = draw_hidden(batch, network.units, request.mask_ratio).to(device)
    infer, loss, seconds = MaskedInferer(request.amp), MaskedPixelLoss(), []  # type: ignore[arg-type]
    for _ in range(3):
        begin = time.monotonic()
        loss(infer(image, network, hidden), image).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.monotonic() - begin)
    network.zero_grad(set_to_none=True)
    return min(seconds)
