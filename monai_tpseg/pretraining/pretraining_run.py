"""The steps of `tpseg pretrain`: pictures, an autoencoder, MONAI's trainer, the trunk as a file, a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.transforms import Compose

from monai_tpseg.cores import fit_threads
from monai_tpseg.data.datalists import Case
from monai_tpseg.engines.masked_pretraining import MaskedInferer, MaskedPixelLoss, PrepareMaskedBatch
from monai_tpseg.engines.optim import lr_schedule, parameter_groups
from monai_tpseg.files import write_atomically
from monai_tpseg.handlers import (
    DivergenceError,
    EpochSeed,
    FillCache,
    GradientClipping,
    KeepLoss,
    LearningCurves,
    RunCheckpoint,
    RunClock,
    StopOnDivergence,
    TrainProgress,
)
from monai_tpseg.io import find_read_error
from monai_tpseg.keys import IMAGE, TASK
from monai_tpseg.networks.encoder_file import EncoderInfo, save_encoder
from monai_tpseg.networks.fast.inference_form import choose_device
from monai_tpseg.networks.hiera import build_hiera
from monai_tpseg.networks.masked_autoencoder import MaskedAutoencoder
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.pretraining.batches import make_dataset, make_loader, reading_transforms
from monai_tpseg.pretraining.picture_lists import list_pictures
from monai_tpseg.pretraining.pretrain_options import PretrainOptions
from monai_tpseg.pretraining.reconstructions import PICTURE, draw_reconstructions
from monai_tpseg.pretraining.schedule import Plan, make_plan
from monai_tpseg.training.train_options import TrainingError, recorded_request
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.words import count

__all__ = ["ENCODER", "Pretrained", "pretrain"]

logger = logging.getLogger(__name__)

ENCODER = "encoder.pt"
_DONE = "pretrained"

_WEIGHT_DECAY = 0.05  # this, the betas and the warm-up are those of He et al. 2022, table 8
_BETAS = (0.9, 0.95)
_WARMUP = 0.05


@dataclass(frozen=True)
class Pretrained:
    """Result of a pretraining.

    Attributes:
        encoder: the file of the trunk, with its description beside it.
        picture: file with reconstructions.
        pictures: number of training pictures.
        first: mean loss of the first epoch.
        last: mean loss of the last epoch; 1 corresponds to predicting the mean of each unit.
    """

    encoder: Path
    picture: Path
    pictures: int
    first: float
    last: float


class EncoderCheckpoint(RunCheckpoint):
    """Writes the trunk alone as `encoder.pt` after every epoch, and `last.pt` with everything that is needed to go on.

    Args:
        output_dir: folder of the files.
        encoder: description that goes beside the trunk.
        resume: see `RunCheckpoint`.
        lr_scheduler: see `RunCheckpoint`.
    """

    def __init__(self, output_dir: str, encoder: EncoderInfo, resume: str, lr_scheduler: Any) -> None:
        run = WeightsInfo(("masked pixels",), {}, (encoder.image_size[0], encoder.image_size[1]))
        super().__init__(output_dir, run, resume=resume, lr_scheduler=lr_scheduler)
        self.encoder = encoder

    def _write_model(self, engine: Any) -> None:
        training = {**self.encoder.training, "epoch": engine.state.epoch}
        save_encoder(self.folder / ENCODER, engine.network.trunk.state_dict(), replace(self.encoder, training=training))


def pretrain(request: PretrainOptions, out: Path, resume: bool = False, quiet: bool = False) -> Pretrained:
    """Pretrain a trunk on pictures without labels.

    Args:
        request: pictures, trunk, length.
        out: folder of the pretraining; it holds `encoder.pt` with `encoder.json`, `reconstruction.png`, the list of
            pictures, curves and what a resume needs.
        resume: go on with what is there.
        quiet: no progress.

    Raises:
        TrainingError: what was asked for cannot be done; one line.
        ValueError: a picture or a datalist that cannot be used; one line.
    """
    device = choose_device(request.device)
    with recorded_request(request, out, resume):
        cases = list_pictures(request, out)
    logger.info("Data: %d pictures, no labels.", len(cases))
    curves = LearningCurves(str(out))
    if not (out / _DONE).is_file():
        _run(request, cases, device, out, curves, quiet)
        write_atomically(out / _DONE, b"")
    losses = [float(entry["loss"]) for entry in curves.history]
    return Pretrained(out / ENCODER, out / PICTURE, len(cases), losses[0], losses[-1])


def _run(
    request: PretrainOptions,
    cases: Sequence[Case],
    device: torch.device,
    out: Path,
    curves: LearningCurves,
    quiet: bool,
) -> None:
    fit_threads()
    torch.manual_seed(request.seed)
    size = request.image_size, request.image_size
    network = MaskedAutoencoder(build_hiera(request.backbone, request.chosen_stem), size).to(device)
    plan = make_plan(request, len(cases), network, device, out)
    _announce(plan, request, device)
    trainer = _trainer(request, cases, network, plan, device, out, curves, quiet)
    try:
        trainer.run()
    except Exception as error:
        found = find_read_error(error)
        if found is None and not isinstance(error, DivergenceError):
            raise
        told = f"{found} Take it out of the data and begin in another --out." if found else str(error)
        raise TrainingError(told) from error
    _draw(network, cases, request, out)


def _announce(plan: Plan, request: PretrainOptions, device: torch.device) -> None:
    where = f"{device}, {count(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else f"{device}"
    line = "Pretraining: %s, %s of %s at %d pixels on %s, about %s."
    line += " --resume continues it if stopped."
    steps, batch = count(plan.steps, "step"), count(plan.batch, "picture")
    minutes = count(max(1, round(plan.minutes)), "minute")
    logger.info(line, request.backbone, steps, batch, request.image_size, where, minutes)


def _trainer(
    request: PretrainOptions,
    cases: Sequence[Case],
    network: MaskedAutoencoder,
    plan: Plan,
    device: torch.device,
    out: Path,
    curves: LearningCurves,
    quiet: bool,
) -> SupervisedTrainer:
    dataset = make_dataset(cases, request.image_size, progress=not quiet)
    loader = make_loader(dataset, cases, plan, request)
    groups = parameter_groups(network, request.lr, weight_decay=_WEIGHT_DECAY)
    for group in groups:
        del group["task_rows"]
    optimizer = torch.optim.AdamW(groups, lr=request.lr, betas=_BETAS, fused=True)
    schedule = lr_schedule(optimizer, "cosine", plan.steps, _WARMUP)
    handlers: list[Any] = [
        FillCache([dataset]),
        RunClock(out),
        EpochSeed(request.seed, dataset),
        GradientClipping(1.0),
        StopOnDivergence(str(out), ()),
        KeepLoss(),
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
        curves,
        EncoderCheckpoint(str(out), _described(request, plan, len(cases)), "auto", schedule),
        TrainProgress(not quiet),
    ]
    return SupervisedTrainer(
        device=device,
        max_epochs=plan.epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=MaskedPixelLoss(),
        inferer=MaskedInferer(request.amp),  # type: ignore[arg-type]
        prepare_batch=PrepareMaskedBatch(network.units, request.mask_ratio),
        train_handlers=handlers,
        non_blocking=device.type == "cuda",
        amp=request.amp == "fp16",
        decollate=False,
        optim_set_to_none=True,
    )


def _described(request: PretrainOptions, plan: Plan, pictures: int) -> EncoderInfo:
    size = request.image_size, request.image_size
    training = {"method": "masked pixels", "mask_ratio": request.mask_ratio, "pictures": pictures, "steps": plan.steps}
    training |= {"batch_size": plan.batch, "lr": request.lr, "seed": request.seed}
    return EncoderInfo(request.backbone, request.chosen_stem, size, pipelines_hash(), training)


def _draw(network: MaskedAutoencoder, cases: Sequence[Case], request: PretrainOptions, out: Path) -> None:
    """A picture of each modality, the middle one of its list."""
    modalities = list(dict.fromkeys(str(case[TASK]) for case in cases))
    own = [[case for case in cases if case[TASK] == modality] for modality in modalities]
    read = Compose(reading_transforms(request.image_size))
    image = torch.stack([torch.as_tensor(read(dict(part[len(part) // 2]))[IMAGE]) for part in own])
    draw_reconstructions(network, image, modalities, request.mask_ratio, request.seed, out / PICTURE)
