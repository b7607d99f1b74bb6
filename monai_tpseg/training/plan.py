"""Length and bundle options of a training, chosen once and kept for resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from monai_tpseg.files import write_atomically
from monai_tpseg.networks.build import build_network
from monai_tpseg.networks.encoder_file import EncoderInfo
from monai_tpseg.networks.hiera import is_published
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.parsing import read_record
from monai_tpseg.training.lists import Lists
from monai_tpseg.training.train_options import TrainOptions

__all__ = ["FROM_SCRATCH", "Plan", "make_plan", "network_to_train", "seconds_per_step"]

FROM_SCRATCH: dict[str, Any] = {"backbone": "hiera_mini", "stem": "conv", "detail": 16}
"""The network of a training from nothing: that of the starter weights."""

_PLAN = "plan.json"
_EPOCHS = 10  # validations of a training of so many minutes
_CACHE = 2**30  # bytes of pictures that are kept in memory after their fixed transforms
_SLOWER = 1.3  # a step with its augmentation and optimiser, in passes through the network
_PASS = 1 / 3  # what a picture costs that is only looked at, in pictures of a step

# weights that were trained with a trunk go on with it, more gently than they began; those on SAM 2's keep it frozen
_FURTHER: dict[str, Any] = {
    "recipe": "from_scratch",
    "lr": 3e-4,
    "reinforcement_ramp": 0.0,
    "gate_temperature": [0.3, 0.3],
}
_PRETRAINED: dict[str, Any] = {"layer_decay": 0.75}  # of a trunk that trains on; He et al. 2022, table 9
_FROZEN: dict[str, Any] = {"recipe": "paper", "gate_temperature": [0.3, 0.3]}


@dataclass(frozen=True)
class Plan:
    """A training.

    Attributes:
        options: options of train.json by name.
        steps: number of optimiser steps.
        minutes: estimated duration on this machine in minutes.
    """

    options: dict[str, Any]
    steps: int
    minutes: float


def make_plan(request: TrainOptions, lists: Lists, info: WeightsInfo, device: torch.device, out: Path) -> Plan:
    """Return the plan of a training, that of `out`/plan.json where there is one.

    Args:
        asked: minutes or epochs, and what else was asked for.
        lists: lists of the training.
        info: description of the initial weights, or of the new network.
        device: device; the duration of a step is measured there.
        out: folder of the training.
    """
    path = out / _PLAN
    if path.is_file():
        return Plan(**read_record(path, {"options": dict, "steps": (int, float), "minutes": (int, float)}))
    plan = _planned(request, lists, info, device)
    write_atomically(path, (json.dumps(asdict(plan), indent=1) + "\n").encode())
    return plan


def _planned(request: TrainOptions, lists: Lists, info: WeightsInfo, device: torch.device) -> Plan:
    batch = min(request.batch_size, max(2, len(lists.training)))
    recipe = _recipe(request, info)
    network = {**info.network, "image_size": list(info.image_size), "window": info.window}
    momentum = {} if network.get("momentum") is not None else {"momentum": None}
    frozen = bool({"recipe": "from_scratch", **recipe}["recipe"] == "paper")
    a_step = seconds_per_step(info, batch, frozen, device) * _SLOWER
    a_validation = a_step / batch * _PASS * len(lists.validation)
    if request.epochs:
        epochs, cases = request.epochs, len(lists.training)
    else:
        left = max(60 * request.minutes - _EPOCHS * a_validation, 0)
        epochs, cases = _EPOCHS, max(1, int(left / a_step / _EPOCHS)) * batch
    steps = math.ceil(cases / batch)
    size = math.prod(info.image_size) * 16  # three channels and a mask, float32
    options = {
        **network,
        **momentum,
        **recipe,
        "tasks": list(info.tasks),
        "modalities": dict(info.modalities),
        "max_epochs": epochs,
        "epoch_cases": cases,
        "batch_size": batch,
        "balance": 0.7,
        "num_workers": 0,
        "cache_rate": min(1.0, _CACHE / (size * len(lists.training))),
        "seed": request.seed,
        "device": str(device),
        **request.options,
    }
    return Plan(options, epochs * steps, epochs * (steps * a_step + a_validation) / 60)


def network_to_train(encoder: EncoderInfo | None) -> dict[str, Any]:
    """Return the network of a training from nothing, around a pretrained trunk if there is one."""
    if encoder is None:
        return FROM_SCRATCH
    own = {"backbone": encoder.backbone, "stem": encoder.stem}
    return own if is_published(encoder.backbone) else {**FROM_SCRATCH, **own}


def _recipe(request: TrainOptions, info: WeightsInfo) -> dict[str, Any]:
    if request.encoder and is_published(info.network["backbone"]):
        return {"recipe": "paper"}
    if request.starts_from_scratch:
        return {"recipe": "from_scratch", "lr": 1.5e-3, "ema": 0.99, **(_PRETRAINED if request.encoder else {})}
    return dict(_FROZEN if info.training.get("recipe") == "paper" else _FURTHER)


def seconds_per_step(
    info: WeightsInfo,
    batch: int,
    frozen: bool,
    device: torch.device,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Time forward and backward passes of a network as large as the one to be trained.

    `clock` returns seconds; `time.process_time` counts the work of this process alone, where other work shares a CPU.
    """
    network = build_network(
        num_tasks=len(info.tasks), image_size=info.image_size, freeze_encoder=frozen, **info.network
    ).to(device)
    image, task = torch.zeros(batch, 3, *info.image_size, device=device), torch.zeros(batch, dtype=torch.long)
    seconds = []
    for _ in range(3):
        begin = clock()
        network(image, task.to(device)).mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(clock() - begin)
    return min(seconds)
