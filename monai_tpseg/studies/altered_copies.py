"""Altered copies of training pictures, as substitutes for unseen pictures.

A network fits its training pictures better than new ones, so an expected Dice fitted on them is too high. A copy that
is deformed, rotated, resized and changed in tone more than by training augmentation is new to the network, and its
label is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Rand2DElasticd, RandAdjustContrastd, RandGaussianNoised, RandGaussianSmoothd

from monai_tpseg.keys import IMAGE, LABEL

__all__ = ["altered_copies"]


def altered_copies(
    image: MetaTensor, label: torch.Tensor, count: int, seed: int = 0
) -> Iterator[tuple[MetaTensor, torch.Tensor]]:
    """Yield altered copies of a picture and its label, alternately changed in tone, and in tone and shape.

    Args:
        image: (3, H, W) from `LoadMedicalImage`; its metadata are kept.
        label: (1, H, W) in {0, 1}.
        count: number of copies.
        seed: random seed; equal arguments give equal copies.
    """
    plain, spread = image.as_tensor().float(), float(image.as_tensor().float().std()) or 1.0
    for n in range(count):
        steps: list[Any] = [*_deformation(min(plain.shape[1:]))] * (n % 2) + [*_intensity_changes(spread)]
        change = Compose(steps).set_random_state(seed=(seed * 1009 + n) % 2**31)
        made = change({IMAGE: plain.clone(), LABEL: label.float().clone()})
        copy, truth = (torch.as_tensor(made[key]).as_subclass(torch.Tensor) for key in (IMAGE, LABEL))
        yield MetaTensor(copy.float(), meta=image.meta), (truth > 0.5).to(torch.uint8)


def _deformation(side: int) -> Iterator[Any]:
    """Rotate by up to 45 degrees, shift and resize by up to 0.15 and 0.35 of the side, and deform; nothing is empty."""
    yield Rand2DElasticd(
        keys=(IMAGE, LABEL), spacing=(side / 4, side / 4), magnitude_range=(0.01 * side, 0.04 * side), prob=1,
        rotate_range=0.8, scale_range=0.35, translate_range=0.15 * side, mode=("bilinear", "nearest"),
        padding_mode="reflection",
    )  # fmt: skip


def _intensity_changes(spread: float) -> Iterator[Any]:
    """Change gamma; blur half of the copies, and add noise of up to a third of the picture's spread to the others."""
    yield RandAdjustContrastd(keys=IMAGE, prob=1, gamma=(0.6, 1.6))
    yield RandGaussianSmoothd(keys=IMAGE, prob=0.5, sigma_x=(0.5, 2.0), sigma_y=(0.5, 2.0))
    yield RandGaussianNoised(keys=IMAGE, prob=0.5, std=float(np.float32(spread / 3)))
