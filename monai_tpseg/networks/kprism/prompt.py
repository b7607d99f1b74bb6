"""A prompt for an image: a class, clicks, a previous mask, exemplars, in any combination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from monai_tpseg.networks.layers import check_mask, is_tracing, plain_tensor
from monai_tpseg.words import choose

__all__ = ["MODES", "Mode", "Prompt", "check_exemplars", "check_prompt", "first_prompt"]

Mode = Literal["semantic", "in_context", "interactive"]
MODES: tuple[Mode, ...] = ("semantic", "in_context", "interactive")
"""What training and evaluation start from; the network itself looks at what a prompt holds."""


@dataclass(frozen=True)
class Prompt:
    """The prompt of a batch; every field is optional, and the fields present determine the mode.

    A class alone is semantic segmentation, exemplars alone are in-context segmentation, clicks alone are interactive
    segmentation. Clicks with a class or with exemplars refine what these give.

    Attributes:
        task: row of the class, an int, a 0-d or a (B,) integer tensor.
        clicks: (B, N, 3) float: row and column in pixels of the network's input, pixel centres being whole numbers,
            and +1 (inside), -1 (outside) or 0 (padding: the click does not exist). The order does not matter.
        previous_logits: (B, 1, h, w) logits of the mask that the clicks correct, resized to the input if need be.
        exemplar_image: (B, K, 3, H', W') K reference images per sample; their size may differ from the input's.
        exemplar_label: (B, K, 1, H', W') their masks in [0, 1].
        exemplar_valid: (B, K, 1, H', W') 1 where an exemplar has pixels, 0 where it is padding; an exemplar that is
            padding altogether does not exist. By default all pixels are valid.
    """

    task: int | Tensor | None = None
    clicks: Tensor | None = None
    previous_logits: Tensor | None = None
    exemplar_image: Tensor | None = None
    exemplar_label: Tensor | None = None
    exemplar_valid: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the prompt is empty: no class, clicks, previous mask or exemplars."""
        given: tuple[Any, ...] = (self.task, self.clicks, self.previous_logits, self.exemplar_image)
        return all(value is None for value in given)


def first_prompt(
    mode: Mode, task: Tensor | None, exemplar_image: Tensor | None, exemplar_label: Tensor | None
) -> Prompt:
    """Return the first prompt of a batch in `mode`; empty for "interactive", whose first round adds a click.

    Raises:
        ValueError: "in_context" without exemplars, or an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"Unknown mode {mode!r}; {choose(mode, MODES)}.")
    if mode == "semantic":
        return Prompt(task=task)
    if mode == "interactive":
        return Prompt()
    if exemplar_image is None or exemplar_label is None:
        raise ValueError("In-context batches need exemplar_image and exemplar_label; see ExemplarDataset.")
    return Prompt(exemplar_image=exemplar_image, exemplar_label=exemplar_label)


def check_prompt(prompt: Prompt, batch: int, size: tuple[int, int], remembered: bool) -> None:
    """Check a prompt against its images.

    On an accelerator only shapes are checked; values are not read back.

    Args:
        prompt: to check.
        batch: B of the images.
        size: (H, W) of the images.
        remembered: whether exemplars have been encoded before.

    Raises:
        ValueError: an empty prompt, a shape that does not fit, a click outside the image or without a valid polarity.
    """
    if prompt.is_empty and not remembered:
        raise ValueError("The prompt is empty: give a task, clicks, previous_logits or exemplars.")
    if remembered and prompt.exemplar_image is not None:
        raise ValueError("Exemplars come from the memory or from the prompt, not both; omit one.")
    if prompt.clicks is not None:
        _check_clicks(plain_tensor(prompt.clicks), batch, size)
    previous = prompt.previous_logits
    if previous is not None and (previous.ndim != 4 or previous.shape[:2] != (batch, 1)):
        raise ValueError(f"previous_logits must be ({batch}, 1, h, w), got shape {tuple(previous.shape)}.")
    if prompt.exemplar_image is not None or prompt.exemplar_label is not None:
        check_exemplars(prompt.exemplar_image, prompt.exemplar_label, prompt.exemplar_valid, batch)


def _check_clicks(clicks: Tensor, batch: int, size: tuple[int, int]) -> None:
    if clicks.ndim != 3 or clicks.shape[0] != batch or clicks.shape[2] != 3:
        raise ValueError(f"clicks must be ({batch}, N, 3): row, column, polarity; got shape {tuple(clicks.shape)}.")
    if clicks.device.type != "cpu" or is_tracing():
        return
    for row, column, polarity in clicks.reshape(-1, 3).tolist():
        if polarity not in (-1.0, 0.0, 1.0):
            raise ValueError(f"The polarity of a click must be 1, -1 or 0 (padding), got {polarity:g}.")
        inside = -0.5 <= row < size[0] - 0.5 and -0.5 <= column < size[1] - 0.5
        if polarity and not inside:
            raise ValueError(
                f"A click at row {row:g}, column {column:g} lies outside the image of {size[0]} x {size[1]} pixels."
            )


def check_exemplars(image: Tensor | None, label: Tensor | None, valid: Tensor | None, batch: int | None = None) -> None:
    """Check that exemplars are complete: image and label of the same shape.

    Args:
        image, label, valid: see `Prompt`.
        batch: B that they must have, if known.

    Raises:
        ValueError: one is missing, the shapes do not fit, or a label on the CPU leaves [0, 1].
    """
    if image is None or label is None:
        missing = "exemplar_image" if image is None else "exemplar_label"
        raise ValueError(f"Exemplars need an image and a label: {missing} is missing.")
    if image.ndim != 5 or image.shape[2] != 3 or not image.shape[1] or batch not in (None, image.shape[0]):
        expected = "B" if batch is None else batch
        raise ValueError(f"exemplar_image must be ({expected}, K, 3, H, W), K >= 1, got shape {tuple(image.shape)}.")
    form = (*image.shape[:2], 1, *image.shape[3:])
    for name, value in (("exemplar_label", label), ("exemplar_valid", valid)):
        if value is not None and tuple(value.shape) != form:
            raise ValueError(f"{name} must be {form} like its images, got shape {tuple(value.shape)}.")
    if valid is not None and valid.device.type == "cpu" and not is_tracing():
        empty = [b for b, any_valid in enumerate(plain_tensor(valid).flatten(1).any(1).tolist()) if not any_valid]
        if empty:
            raise ValueError(f"Sample {empty[0]} has no valid exemplar pixel; give it an exemplar.")
    check_mask(label, "exemplar_label")
    if torch.is_floating_point(image) is False:
        raise ValueError(f"exemplar_image must be floating point, got {image.dtype}.")
