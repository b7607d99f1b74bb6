"""Additions to MONAI's trainer for masked-image pretraining: the choice of hidden units, and their loss."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import PrepareBatch
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_tpseg.inferers.task_inferer import Amp, autocast
from monai_tpseg.keys import IMAGE
from monai_tpseg.networks.masked_autoencoder import MaskedAutoencoder, Reconstruction, to_units

__all__ = ["MaskedInferer", "MaskedPixelLoss", "PrepareMaskedBatch", "draw_hidden", "unit_statistics"]

_LEAST_VARIANCE = 1e-6


def draw_hidden(batch: int, units: int, ratio: float) -> Tensor:
    """Draw the hidden units of each picture, the same number in each, (B, U) bool, from torch's generator.

    At least one is hidden and at least one is visible.

    Raises:
        ValueError: a ratio outside (0, 1).
    """
    if not 0 < ratio < 1:
        raise ValueError(f"mask_ratio must be above 0 and below 1, got {ratio:g}.")
    number = min(max(1, round(ratio * units)), units - 1)
    return torch.rand(batch, units).argsort(1).argsort(1) < number


def unit_statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every unit's values, each (B, U, 1)."""
    variance, mean = torch.var_mean(to_units(image).flatten(2), -1, keepdim=True)
    return mean, (variance + _LEAST_VARIANCE).sqrt()


class PrepareMaskedBatch(PrepareBatch):
    """Provides the image as input and target, and draws its hidden units.

    Args:
        units: number of units of a picture.
        ratio: fraction of hidden units, in (0, 1).
    """

    def __init__(self, units: int, ratio: float) -> None:
        self.units, self.ratio = units, ratio

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...], dict[str, Any]]:
        """Return (image, image, (hidden,), {}) on `device`."""
        image = batchdata[IMAGE].to(device=device, non_blocking=non_blocking)
        hidden = draw_hidden(len(image), self.units, self.ratio).to(device)
        return image, image, (hidden,), {}


class MaskedInferer(Inferer):
    """Calls the autoencoder under autocast.

    Args:
        amp: "none", "bf16" or "fp16".
    """

    def __init__(self, amp: Amp = "none") -> None:
        self.amp = amp

    def __call__(self, inputs: Tensor, network: MaskedAutoencoder, *args: Any, **kwargs: Any) -> Reconstruction:
        """Return `network(inputs, hidden)`."""
        with autocast(inputs.device, self.amp):
            result: Reconstruction = network(inputs, *args)
        return result


class MaskedPixelLoss(nn.Module):
    """Mean squared error over the hidden units; each target is normalised by its own mean and deviation, as in MAE."""

    def forward(self, output: Reconstruction, image: Tensor) -> Tensor:
        """Compare a reconstruction with `image` (B, 3, H, W); returns a scalar."""
        mean, deviation = unit_statistics(image)
        target = (to_units(image).flatten(2) - mean) / deviation
        error = (output.pixels.float() - target).square().mean(-1)  # (B, U)
        return error[output.hidden].mean()
