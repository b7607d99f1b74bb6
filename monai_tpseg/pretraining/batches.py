"""The pictures of a pretraining as batches: read once, then cropped, turned and brightened anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import DataLoader
from monai.transforms import (
    CastToTyped,
    Compose,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    Resized,
    SelectItemsd,
)

from monai_tpseg.data.cache import CachedCases
from monai_tpseg.data.datalists import Case
from monai_tpseg.data.samplers import TaskBalancedSampler
from monai_tpseg.keys import IMAGE, SOURCE, TASK
from monai_tpseg.pretraining.picture_lists import MODALITIES
from monai_tpseg.pretraining.pretrain_options import PretrainOptions
from monai_tpseg.pretraining.schedule import Plan
from monai_tpseg.transforms import CropToRegiond, LoadMedicalImaged, NormalizeByModalityd, ResizePictured

__all__ = ["make_dataset", "make_loader", "reading_transforms"]

_MARGIN = 1.25  # side of what is kept, in sides of the input: crops are taken from it
_LEAST = 0.5  # side of the smallest crop, in sides of what is kept
_CACHE = 2**31  # bytes of pictures that are kept in memory
_BALANCE = 0.5  # a modality with four times the pictures of another is seen twice as often


def reading_transforms(size: int) -> list[Any]:
    """Return the transforms from an entry to a picture of `size` x `size` as the network takes it."""
    return [
        LoadMedicalImaged(IMAGE),
        CropToRegiond(IMAGE),
        NormalizeByModalityd(modalities=MODALITIES),
        ResizePictured(size, label_keys=()),
        SelectItemsd([IMAGE, SOURCE]),
    ]


def make_dataset(cases: Sequence[Case], size: int, progress: bool) -> CachedCases:
    """Return the pictures: what fits into 2 GiB is kept after it was read, in half precision."""
    kept = round(size * _MARGIN)
    random = [
        RandSpatialCropd(IMAGE, round(kept * _LEAST), (kept, kept), random_size=True),
        CastToTyped(IMAGE, torch.float32),
        Resized(IMAGE, (size, size), mode="bilinear"),
        RandFlipd(IMAGE, prob=0.5, spatial_axis=0),
        RandFlipd(IMAGE, prob=0.5, spatial_axis=1),
        RandScaleIntensityd(IMAGE, factors=0.2, prob=0.5),
        RandShiftIntensityd(IMAGE, offsets=0.2, prob=0.5),
    ]
    steps = Compose([*reading_transforms(kept), CastToTyped(IMAGE, torch.float16), *random])
    rate = min(1.0, _CACHE / (6 * kept * kept * len(cases)))
    return CachedCases(cases, steps, cache_rate=rate, num_workers=0, progress=progress)


def make_loader(dataset: CachedCases, cases: Sequence[Case], plan: Plan, request: PretrainOptions) -> DataLoader:
    """Return the loader of an epoch's draw; rare modalities are drawn more often than their share."""
    tasks = [str(case[TASK]) for case in cases]
    sampler = TaskBalancedSampler(tasks, num_samples=plan.cases, seed=request.seed, balance=_BALANCE)
    return DataLoader(dataset, sampler=sampler, batch_size=plan.batch, num_workers=0)
