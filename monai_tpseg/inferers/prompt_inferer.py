"""Inference with prompts: a class, exemplars or clicks on pictures and volumes, and a simulated user for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from monai_tpseg.clicks import next_clicks, scale_clicks
from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.inferers.task_inferer import (
    Amp,
    TaskInferer,
    autocast,
    check_amp,
    image_size_2d,
    resize_antialiased,
)
from monai_tpseg.networks import KPrism, Prompt, unwrap
from monai_tpseg.networks.kprism import MODES, Memory, Mode, first_prompt
from monai_tpseg.networks.layers import check_mask, plain_tensor, to_device, with_meta_of
from monai_tpseg.words import choose

__all__ = ["PromptInferer", "SimulatedUser"]


class PromptInferer(TaskInferer):
    """Probabilities of pictures and volumes at their own size, for any prompt.

    Whole slices are resized to `image_size`, and their probabilities back. A class and exemplars apply to every slice
    of a volume; exemplars are encoded once. Clicks are supported for pictures only.

    Args:
        image_size: (H, W) of the network's input.
        slice_batch, amp, device: see `TaskInferer`.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 512,
        slice_batch: int = 8,
        amp: Amp = "none",
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(image_size, slice_batch=slice_batch, amp=amp, device=device)

    def __call__(
        self,
        inputs: Tensor,
        network: Any,
        *args: Any,
        task: int | Tensor | None = None,
        clicks: Tensor | None = None,
        exemplar_image: Tensor | None = None,
        exemplar_label: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Segment `inputs`.

        Args:
            inputs: (B, 3, H, W) or (B, 3, H, W, D).
            network: K-Prism.
            task: row of the class, or None.
            clicks: (B, N, 3) in pixels of `inputs`, see `Prompt`, or None.
            exemplar_image, exemplar_label: (B, K, 3, h, w) and (B, K, 1, h, w) at sizes that the network takes, or
                (1, K, ...) for all; or None.

        Returns:
            probabilities, float32, (B, 1, H, W) or (B, 1, H, W, D).

        Raises:
            ValueError: no prompt, a network without prompts, clicks on a volume, exemplars without their labels or for
                another number of inputs, or one volume of several with exemplars of its own.
        """
        if task is None and clicks is None and exemplar_image is None and exemplar_label is None:
            raise ValueError("Inference has no default prompt: pass a task, clicks or exemplars.")
        if clicks is not None:
            if inputs.ndim != 4:
                raise ValueError(f"Clicks are for pictures (B, 3, H, W), got shape {tuple(inputs.shape)}.")
            clicks = scale_clicks(plain_tensor(clicks), (inputs.shape[2], inputs.shape[3]), self.image_size)
        net: KPrism = unwrap(network)  # type: ignore[assignment]
        if not hasattr(net, "decode"):
            raise ValueError(f"{type(net).__name__} takes no prompts: use TaskInferer.")
        memory = self._memory(net, inputs, exemplar_image, exemplar_label)

        def bound(image: Tensor, rows: Tensor) -> Tensor:
            prompt = Prompt(task=None if task is None else rows, clicks=clicks)
            return net.decode(net.encode(image), prompt, _for_batch(memory, len(image)))

        return super().__call__(inputs, bound, task=0 if task is None else task)

    def _memory(self, net: KPrism, inputs: Tensor, image: Tensor | None, label: Tensor | None) -> Memory | None:
        if image is None and label is None:
            return None
        if image is None or label is None:
            raise ValueError("Exemplars need both exemplar_image and exemplar_label.")
        if len(image) not in (1, len(inputs)):
            raise ValueError(f"Exemplars must be (1, K, ...) or ({len(inputs)}, K, ...), got {tuple(image.shape)}.")
        if inputs.ndim == 5 and len(image) > 1:
            raise ValueError("Exemplars of volumes must be (1, K, ...): the same for every slice.")
        target = self.device or inputs.device
        with autocast(target, self.amp):
            return net.remember(to_device(plain_tensor(image), target), to_device(plain_tensor(label), target))


def _for_batch(memory: Memory | None, batch: int) -> Memory | None:
    """Expand the exemplars of one sample to a batch."""
    if memory is None or len(memory.present) == batch:
        return memory

    def every(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape[1:])

    keys, values, summaries, valid, present = memory
    whole = None if valid is None else every(valid)
    return Memory(every(keys), every(values), tuple(every(s) for s in summaries), whole, every(present))


class SimulatedUser(Inferer):
    """Starts from a class, from exemplars or from nothing, and corrects the mask with simulated clicks.

    Clicks are simulated at the network's size. A satisfied user stops clicking, and the mask stays. Without clicks,
    volumes are also segmented, slice by slice.

    Args:
        image_size: (H, W) of the network's input.
        start: "semantic", "in_context" or "interactive" (the first mask is empty).
        clicks: N, 0 or more; 1 or more for "interactive".
        threshold: minimum probability of a lesion pixel.
        amp: "none", "bf16" or "fp16".
        device: for the slices of volumes, see `TaskInferer`.

    Raises:
        ValueError: an unknown start, too few clicks, or a threshold or `amp` that is not allowed.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 512,
        start: Mode = "interactive",
        clicks: int = 10,
        threshold: float = THRESHOLD,
        amp: Amp = "none",
        device: str | torch.device | None = None,
    ) -> None:
        if start not in MODES:
            raise ValueError(f"Unknown start {start!r}; {choose(start, MODES)}.")
        if not isinstance(clicks, int) or clicks < (start == "interactive"):
            raise ValueError(
                f"clicks must be at least {int(start == 'interactive')} for start '{start}', got {clicks}."
            )
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be a probability above 0 and below 1, got {threshold}.")
        self.image_size, self.start, self.clicks = image_size_2d(image_size), start, clicks
        self.threshold, self.amp, self.device = threshold, check_amp(amp), device

    def __call__(
        self,
        inputs: Tensor,
        network: Any,
        *args: Any,
        label: Tensor | None = None,
        task: Tensor | None = None,
        exemplar_image: Tensor | None = None,
        exemplar_label: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Segment pictures like a user who sees their labels.

        Args:
            inputs: (B, 3, H, W); without clicks also (B, 3, H, W, D).
            network: K-Prism.
            label: (B, 1, H, W) in {0, 1}; ignored for a volume.
            task, exemplar_image, exemplar_label: as required by the start.

        Returns:
            probabilities (B, 1 + N, H, W), float32: before the first click and after each; (B, 1, H, W, D) of a volume.

        Raises:
            ValueError: clicks on a volume, a label that is missing or does not fit, or a missing input for the start.
        """
        given: dict[str, Any] = {"task": task}
        if self.start == "in_context":
            given = {"exemplar_image": exemplar_image, "exemplar_label": exemplar_label}
        if inputs.ndim == 5 and not self.clicks:
            return PromptInferer(self.image_size, amp=self.amp, device=self.device)(inputs, network, **given)
        if inputs.ndim != 4 or label is None:
            raise ValueError(f"A simulated user needs pictures (B, 3, H, W) and labels, got {tuple(inputs.shape)}.")
        if label.shape != (len(inputs), 1, *inputs.shape[2:]):
            expected = (len(inputs), 1, *inputs.shape[2:])
            raise ValueError(f"label must be {expected} like its pictures, got shape {tuple(label.shape)}.")
        net: KPrism = unwrap(network)  # type: ignore[assignment]
        start = first_prompt(self.start, task, exemplar_image, exemplar_label)
        check_mask(label, "label")
        truth = resize_antialiased(plain_tensor(label), self.image_size) >= 0.5
        with autocast(inputs.device, self.amp):
            state = net.encode(resize_antialiased(plain_tensor(inputs), self.image_size))
            maps = self._rounds(net, state, start, truth)
        return with_meta_of(inputs, torch.cat([resize_antialiased(m, inputs.shape[-2:]) for m in maps], dim=1))

    def _rounds(self, net: KPrism, state: Any, prompt: Prompt, truth: Tensor) -> list[Tensor]:
        """Return probabilities (B, 1, H, W) at the network's size, 1 + N of them."""
        memory = None
        if prompt.exemplar_image is not None and prompt.exemplar_label is not None:
            memory = net.remember(plain_tensor(prompt.exemplar_image), plain_tensor(prompt.exemplar_label))
            prompt = Prompt()
        logits = None if self.start == "interactive" else net.decode(state, prompt, memory).float()
        maps = [torch.zeros_like(truth, dtype=torch.float32) if logits is None else logits.sigmoid()]
        for _ in range(self.clicks):
            click = next_clicks(maps[-1] >= self.threshold, truth)
            given = click if prompt.clicks is None else torch.cat([prompt.clicks, click], dim=1)
            prompt = replace(prompt, clicks=given, previous_logits=logits)
            logits = net.decode(state, prompt, memory).float()
            satisfied = click[..., 2:].unsqueeze(-1) == 0  # (B, 1, 1, 1)
            maps.append(torch.where(satisfied, maps[-1], logits.sigmoid()))
        return maps
