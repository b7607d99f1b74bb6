"""Options of `tpseg pretrain`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from monai_tpseg.catalogue import Modality
from monai_tpseg.networks.hiera import HIERA_VARIANTS, STEMS, Stem, is_published
from monai_tpseg.training.train_options import TrainingError, check_ranges
from monai_tpseg.words import choose

__all__ = ["PretrainOptions"]


@dataclass(frozen=True)
class PretrainOptions:
    """Options of a pretraining.

    Attributes:
        data: datalists, folders with one, or pictures, series and folders of them.
        modality: modality of sources that do not state theirs.
        backbone: a key of `HIERA_VARIANTS`.
        stem: patch embedding; "" is "conv" where the backbone has no published weights, else "patch".
        image_size: pixels of a side of the input.
        mask_ratio: part of a picture that is hidden, in (0, 1); 0.6 is Hiera's.
        batch_size: pictures of a step.
        minutes: the steps may take.
        epochs: passes over the pictures, instead of minutes.
        lr: learning rate at its highest.
        slices: number of slices per volume, evenly spaced.
        amp: "none", "bf16" or "fp16".
        device: device; by default the first GPU, or the CPU.
        seed: random seed.
    """

    data: tuple[str, ...]
    modality: str = ""
    backbone: str = "hiera_mini"
    stem: str = ""
    image_size: int = 192
    mask_ratio: float = 0.6
    batch_size: int = 32
    minutes: float = 60.0
    epochs: int = 0
    lr: float = 1e-3
    slices: int = 32
    amp: str = "none"
    device: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.image_size
        check_ranges(
            ("minutes", self.minutes, 0 < self.minutes < math.inf, "above 0"),
            ("epochs", self.epochs, self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("image_size", size, size >= 64 and size % 32 == 0, "a multiple of 32 from 64 on"),
            ("mask_ratio", self.mask_ratio, 0 < self.mask_ratio < 1, "above 0 and below 1"),
            ("lr", self.lr, 0 < self.lr < 1, "above 0 and below 1"),
            ("slices", self.slices, self.slices >= 1, "1 or more"),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
        )
        for name, word, known in (
            ("backbone", self.backbone, tuple(HIERA_VARIANTS)),
            ("stem", self.stem, ("", *STEMS)),
            ("modality", self.modality, ("", *(modality.value for modality in Modality))),
            ("amp", self.amp, ("none", "bf16", "fp16")),
        ):
            if word not in known:
                raise TrainingError(f"Unknown --{name} '{word}'; {choose(word, filter(None, known))}.")

    @property
    def chosen_stem(self) -> Stem:
        """The stem, chosen where none is asked for."""
        return cast(Stem, self.stem) if self.stem else "patch" if is_published(self.backbone) else "conv"
