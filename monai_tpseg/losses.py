"""The training losses: Dice and boundary-weighted cross-entropy, deep supervision, and prototype contrast.

All of them compute in float32 under autocast and give a plain scalar tensor. Source: arXiv 2604.00684.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BoundaryDiceBCELoss",
    "DeepSupervisionLoss",
    "PrototypeContrastiveLoss",
    "SupervisedOutput",
    "TPSegLoss",
    "box_mean",
]


class SupervisedOutput(Protocol):
    """What a network returns in training: the fused logits and those of its side outputs, all (B, 1, H, W)."""

    @property
    def logits(self) -> Tensor:
        """The fused logits (B, 1, H, W)."""

    @property
    def side_logits(self) -> Sequence[Tensor]:
        """The side logits, each (B, 1, H, W), finest decoder first."""


class PrototypeOutput(SupervisedOutput, Protocol):
    """A training output that also holds the decoders' features f~ and the prototypes of each sample's task."""

    @property
    def features(self) -> Sequence[Tensor]:
        """f~ of each decoder, (B, C, h, w)."""

    @property
    def prototypes(self) -> Sequence[Tensor]:
        """Prototypes of each sample's task, (B, 2, C), 0 background, 1 foreground."""


def box_mean(image: Tensor, kernel_size: int, count_include_pad: bool = False) -> Tensor:
    """Return the mean of `image` over a square window around each pixel, as two passes of one dimension.

    Args:
        image: (B, C, H, W) float; H and W may be smaller than the window.
        kernel_size: side of the window in pixels, odd.
        count_include_pad: whether pixels beyond the image count as zeros; by default they do not count.

    Returns:
        (B, C, H, W), of the same dtype.
    """
    reach = kernel_size // 2
    rows = F.avg_pool2d(image, (kernel_size, 1), 1, (reach, 0), count_include_pad=count_include_pad)
    return F.avg_pool2d(rows, (1, kernel_size), 1, (0, reach), count_include_pad=count_include_pad)


class BoundaryDiceBCELoss(nn.Module):
    """Soft Dice plus a binary cross-entropy that weighs the pixels near the lesion's outline more.

    Per image, `dice_weight * (1 - Dice) + bce_weight * sum(w * BCE) / sum(w)` with
    `w = 1 + boundary_weight * |mean(label) - label|`, the mean over a square window; then the mean over the batch.
    An image without a lesion gives `1 - smooth / (sum(p) + smooth)` for the Dice part: 0 when nothing is predicted.

    Args:
        dice_weight: factor of the Dice part.
        bce_weight: factor of the cross-entropy part.
        boundary_weight: the largest extra weight of a pixel; 0 gives the plain mean cross-entropy.
        kernel_size: side of the window in pixels, odd. Label and window are in pixels of the network's input.
        smooth: pixels added to numerator and denominator of the soft Dice, above 0.
        count_include_pad: whether the window takes pixels beyond the image as background, as the released loss does;
            False leaves them out, so that a lesion cut by the image's edge has no outline there.
        soft_rim: side in pixels, odd, of the window over which the target is averaged, which smooths labels near the
            outline alone; 1 leaves them as they are. The weights w are those of the label itself.

    Raises:
        ValueError: `kernel_size` or `soft_rim` is even or not positive, a weight is negative or not finite, or
            `smooth` is not positive and finite.
    """

    def __init__(
        self,
        dice_weight: float = 0.5,
        bce_weight: float = 0.5,
        boundary_weight: float = 2.0,
        kernel_size: int = 31,
        smooth: float = 1.0,
        count_include_pad: bool = True,
        soft_rim: int = 1,
    ) -> None:
        super().__init__()
        for name, side, example in (("kernel_size", kernel_size, 31), ("soft_rim", soft_rim, 3)):
            if not isinstance(side, int) or side < 1 or side % 2 == 0:
                raise ValueError(f"{name} must be an odd number of pixels such as {example}, got {side}.")
        weights = (dice_weight, bce_weight, boundary_weight)
        if not all(_is_factor(one) for one in (*weights, smooth)) or smooth == 0:
            values = f"{dice_weight}, {bce_weight}, {boundary_weight} and smooth {smooth}"
            raise ValueError(f"Loss weights must be 0 or more and smooth above 0, got weights {values}.")
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.boundary_weight = boundary_weight
        self.kernel_size = kernel_size
        self.count_include_pad = count_include_pad
        self.soft_rim = soft_rim
        self.dice = DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth)

    def forward(self, logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: (B, 1, H, W), any floating type.
            label: (B, 1, H, W) in {0, 1}.
            weight: `pixel_weight(label)`, where several losses have the same label; by default computed here.

        Returns:
            A float32 scalar, 0 or more.

        Raises:
            ValueError: the shapes differ or are not (B, 1, H, W); see also `pixel_weight`.
        """
        if logits.shape != label.shape:
            raise ValueError(f"Logits {tuple(logits.shape)} and label {tuple(label.shape)} must have the same shape.")
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise ValueError(f"Logits and label must be (B, 1, H, W), got shape {tuple(logits.shape)}.")
        logits, label = _plain(logits), _plain(label)
        weight = self.pixel_weight(label) if weight is None else weight
        target = label if self.soft_rim == 1 else box_mean(label, self.soft_rim, count_include_pad=False)
        dice: Tensor = self.dice(logits, target)
        return self.dice_weight * dice + self.bce_weight * self._weighted_bce(logits, target, weight)

    def pixel_weight(self, label: Tensor) -> Tensor:
        """Return w of the cross-entropy for a label (B, 1, H, W), float32 of the same shape.

        On a GPU, where a check would wait for the device, a label that leaves [0, 1] makes the weight NaN.

        Raises:
            ValueError: the batch is empty, or the label leaves [0, 1], as a mask of 0 and 255 does.
        """
        label = _plain(label)
        if not label.numel():
            raise ValueError(f"The batch is empty: its label has shape {tuple(label.shape)}.")
        valid = _is_mask(label)
        mean = box_mean(label, self.kernel_size, self.count_include_pad)
        return (1.0 + self.boundary_weight * (mean - label).abs()).where(valid, torch.nan)

    @staticmethod
    def _weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return ((weight * bce).flatten(1).sum(1) / weight.flatten(1).sum(1)).mean()


class DeepSupervisionLoss(nn.Module):
    """The loss of the fused output plus that of the first side outputs (the three task decoders of the paper).

    Args:
        loss: maps (logits, label), both (B, 1, H, W), to a scalar.
        outputs: how many side outputs take part, finest first; 3 leaves the stage-4 head out, as in the paper.
        weight: factor of the side outputs' sum.

    Raises:
        ValueError: `outputs` is negative or not a whole number, or `weight` is negative or not finite.
    """

    def __init__(self, loss: nn.Module, outputs: int = 3, weight: float = 1.0) -> None:
        super().__init__()
        if not isinstance(outputs, int) or outputs < 0:
            raise ValueError(f"outputs must be 0 or more side outputs, got {outputs}.")
        if not _is_factor(weight):
            raise ValueError(f"weight must be a finite number of at least 0, got {weight}.")
        self.loss = loss
        self.outputs = outputs
        self.weight = weight

    def forward(self, output: SupervisedOutput | Tensor, label: Tensor) -> Tensor:
        """Return the summed loss.

        Args:
            output: the network's training output, or bare logits (B, 1, H, W) from a network without side outputs.
            label: (B, 1, H, W) in {0, 1}.

        Returns:
            A float32 scalar.

        Raises:
            ValueError: the network has fewer side outputs than asked for.
        """
        if isinstance(output, Tensor):
            bare: Tensor = self.loss(output, label)
            return bare
        sides = output.side_logits[: self.outputs]
        if len(sides) < self.outputs:
            raise ValueError(f"The network has {len(sides)} side outputs; set outputs to {len(sides)} or fewer.")
        shared = [self.loss.pixel_weight(label)] if isinstance(self.loss, BoundaryDiceBCELoss) else []
        total: Tensor = self.loss(output.logits, label, *shared)
        for logits in sides:
            total = total + self.weight * self.loss(logits, label, *shared)
        return total


class PrototypeContrastiveLoss(nn.Module):
    """Pushes an image's mean lesion feature away from the task's background prototype, and the reverse.

    Prototypes are moving averages without gradient, so the cosine between the two can only be lowered through the
    features they are averaged from. With m_fg and m_bg the unit class means of one image (eq. 12), the loss is
    `relu(cos(m_fg, P_bg) - max_cosine) + relu(cos(m_bg, P_fg) - max_cosine)`, halved, and the mean over the
    images in which both classes occur. The paper names the strategy without a formula; this form is ours.

    Args:
        max_cosine: cosine in [-1, 1) below which there is no push; 0 asks for orthogonal prototypes.

    Raises:
        ValueError: `max_cosine` is outside [-1, 1).
    """

    def __init__(self, max_cosine: float = 0.0) -> None:
        super().__init__()
        if not -1.0 <= max_cosine < 1.0:
            raise ValueError(f"max_cosine must be a cosine in [-1, 1), got {max_cosine}.")
        self.max_cosine = max_cosine

    def forward(self, features: Tensor, label: Tensor, prototypes: Tensor, task: Tensor) -> Tensor:
        """Return the loss of one decoder's features.

        Args:
            features: f~ (B, C, h, w), any floating type; the gradient flows into it.
            label: (B, 1, H, W) in {0, 1}, H >= h and W >= w; it is averaged down to (h, w).
            prototypes: (T, 2, C) unit norm, 0 background, 1 foreground; no gradient flows into them.
            task: (B,) int64, the row of each image's task.

        Returns:
            A float32 scalar in [0, 1 - max_cosine]; 0 when no image has both classes.

        Raises:
            ValueError: a shape that does not fit the others; on the CPU also a label outside [0, 1] or a row outside
                0..T-1.
        """
        _check_contrast(features, label, prototypes, task)
        features, label = _plain(features), _plain(label)
        _is_mask(label)
        mask = F.adaptive_avg_pool2d(label, (features.shape[-2], features.shape[-1]))
        area = torch.stack([1.0 - mask, mask], dim=1).flatten(2)  # (B, 2, h * w), background first
        with torch.autocast(features.device.type, enabled=False):
            sums = area @ features.flatten(2).transpose(1, 2)  # (B, 2, C)
        opposite = prototypes.detach().float()[task].flip(1)
        cosine = (F.normalize(sums, dim=-1) * opposite).sum(-1)  # (B, 2)
        push = F.relu(cosine - self.max_cosine).mean(1)
        # an image of one class says nothing about the other
        both = (label.amax((1, 2, 3)) > 0.5).float() * (label.amin((1, 2, 3)) < 0.5).float()
        return (push * both).sum() / both.sum().clamp(min=1.0)


class TPSegLoss(nn.Module):
    """The whole training loss: boundary-weighted Dice and cross-entropy with deep supervision, and prototype contrast.

    Args:
        deep_supervision: loss of (output, label); by default `DeepSupervisionLoss(BoundaryDiceBCELoss())`.
        contrastive_weight: factor of the mean `PrototypeContrastiveLoss` over the decoders; 0 leaves it out, since the
            paper gives it no number.

    Raises:
        ValueError: `contrastive_weight` is negative or not finite.
    """

    def __init__(self, deep_supervision: nn.Module | None = None, contrastive_weight: float = 0.0) -> None:
        super().__init__()
        if not _is_factor(contrastive_weight):
            raise ValueError(f"contrastive_weight must be a finite number of at least 0, got {contrastive_weight}.")
        self.deep_supervision = deep_supervision or DeepSupervisionLoss(BoundaryDiceBCELoss())
        self.contrastive = PrototypeContrastiveLoss()
        self.contrastive_weight = contrastive_weight

    def forward(self, output: PrototypeOutput | Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            output: the network's training output, or bare logits (B, 1, H, W) from a network without prototypes; an
                output without prototypes has no contrast.
            label: (B, 1, H, W) in {0, 1}.

        Returns:
            A float32 scalar.
        """
        total: Tensor = self.deep_supervision(output, label)
        if isinstance(output, Tensor) or not self.contrastive_weight or not output.features:
            return total
        rows = torch.arange(label.shape[0], device=label.device)
        pairs = zip(output.features, output.prototypes, strict=True)
        terms = [self.contrastive(features, label, prototypes, rows) for features, prototypes in pairs]
        return total + self.contrastive_weight * torch.stack(terms).mean()


def _is_factor(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _is_mask(label: Tensor) -> Tensor:
    """Return whether a label lies in [0, 1], a bool on its device; raise on the CPU, where nothing must be waited for.

    Raises:
        ValueError: a label on the CPU leaves [0, 1].
    """
    low, high = label.aminmax()
    valid = (low >= 0) & (high <= 1)
    if label.device.type == "cpu" and not valid:
        raise ValueError(f"Label must lie in [0, 1], got values from {low:g} to {high:g}; make it a mask of 0 and 1.")
    return valid


def _check_contrast(features: Tensor, label: Tensor, prototypes: Tensor, task: Tensor) -> None:
    if features.ndim != 4:
        raise ValueError(f"features must be (B, C, h, w), got shape {tuple(features.shape)}.")
    batch, channels, height, width = features.shape
    if label.ndim != 4 or label.shape[:2] != (batch, 1) or label.shape[2] < height or label.shape[3] < width:
        expected = f"({batch}, 1, H, W), at least {height} x {width}"
        raise ValueError(f"label must be {expected}, got shape {tuple(label.shape)}.")
    if prototypes.ndim != 3 or prototypes.shape[1:] != (2, channels):
        raise ValueError(f"prototypes must be (T, 2, {channels}), got shape {tuple(prototypes.shape)}.")
    if task.shape != (batch,) or task.dtype != torch.int64:
        raise ValueError(f"task must be ({batch},) int64, got shape {tuple(task.shape)}, {task.dtype}.")
    if task.device.type == "cpu" and bool(((task < 0) | (task >= len(prototypes))).any()):
        raise ValueError(f"task must be in 0..{len(prototypes) - 1}, got {task.tolist()}.")


def _plain(tensor: Tensor) -> Tensor:
    """Return `tensor` as a float32 torch tensor, without MONAI's metadata, which costs time in every operation."""
    plain: Tensor = convert_to_tensor(tensor, track_meta=False).float()
    return plain
