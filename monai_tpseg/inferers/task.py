"""Inference with a task: whole pictures, slices of volumes, sliding windows, training outputs.

MONAI's `SliceInferer` drops extra arguments and its `SlidingWindowInferer` passes them on unsliced, so a task would
never reach the network, or reach it with the wrong length. These bind the task to the network first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from monai_tpseg.networks.inference import InferenceNetwork
from monai_tpseg.networks.layers import plain_tensor

__all__ = ["Amp", "DeepSupervisionInferer", "TaskInferer", "Window", "autocast", "image_size_2d", "resize_antialiased"]

Amp = Literal["none", "bf16", "fp16"]
Window = Literal["none", "sliding"]
Network = Callable[..., Any]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: Amp, network: object = None) -> torch.autocast:
    """Return the autocast context of one of "none", "bf16", "fp16" on `device`.

    A network in its fast form has a precision of its own and runs without.
    """
    if amp not in ("none", *_DTYPES):
        raise ValueError(f"Unknown amp {amp!r}; choose one of none, bf16, fp16.")
    fast = isinstance(network, InferenceNetwork)
    return torch.autocast(device.type, dtype=_DTYPES.get(amp, torch.bfloat16), enabled=amp != "none" and not fast)


def image_size_2d(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) of an int (a square) or a pair, checked to be divisible by 32.

    Raises:
        ValueError: another form, or not divisible by 32.
    """
    sizes = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sizes) != 2 or any(not isinstance(s, int) or s < 32 or s % 32 for s in sizes):
        raise ValueError(f"image_size must be one or two multiples of 32, got {image_size}.")
    return sizes[0], sizes[1]


def _required(task: int | Tensor | None) -> int | Tensor:
    if task is None:
        raise ValueError("Inference has no default task: pass task=<row of the task> (see TaskToIndexd).")
    return task


class DeepSupervisionInferer(Inferer):
    """Calls the network for training: with the task, and for all of its outputs.

    Args:
        amp: run the forward pass under autocast, "none", "bf16" or "fp16".
    """

    def __init__(self, amp: Amp = "none") -> None:
        self.amp = amp

    def __call__(self, inputs: Tensor, network: Network, *args: Any, task: Any = None, **kwargs: Any) -> Any:
        """Return `network(inputs, task, deep_supervision=True)`; inputs (B, 3, H, W), task (B,)."""
        with autocast(inputs.device, self.amp):
            return network(plain_tensor(inputs), _required(task), deep_supervision=True)


class TaskInferer(Inferer):
    """Lesion probabilities of pictures and volumes at their own size.

    A picture (B, 3, H, W) is one slice; a volume (B, 3, H, W, D) is D of them, which run in batches of `slice_batch`,
    so that memory grows with the batch and not with the volume. With `window="none"` every slice is resized to
    `image_size` as a whole, and its probabilities back to its own size. With `window="sliding"` patches of `roi_size`
    run over the slice at its own scale, zeros around it where it is smaller; that is for weights trained on patches of
    that scale.

    Args:
        image_size: (H, W) of the network's input, one or two multiples of 32.
        window: "none" or "sliding".
        roi_size: patch of the sliding window, one or two multiples of 32; by default `image_size`.
        overlap: of neighbouring patches, in [0, 1).
        sw_batch_size: patches that run together.
        slice_batch: slices that run together.
        amp: "none", "bf16" or "fp16".
        tta_flips: average the probabilities over the four flips of the slice.
        device: where slices are sent to run; the probabilities come back to where the inputs are. By default the
            inputs' own. With it, a volume may stay in the host's memory (see `PrepareTaskBatch`).

    Raises:
        ValueError: an argument outside of its range.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 512,
        window: Window = "none",
        roi_size: int | Sequence[int] | None = None,
        overlap: float = 0.25,
        sw_batch_size: int = 4,
        slice_batch: int = 8,
        amp: Amp = "none",
        tta_flips: bool = False,
        device: str | torch.device | None = None,
    ) -> None:
        if window not in ("none", "sliding"):
            raise ValueError(f"Unknown window {window!r}; choose one of none, sliding.")
        if slice_batch < 1:
            raise ValueError(f"slice_batch must be at least 1, got {slice_batch}.")
        self.image_size = image_size_2d(image_size)
        self.window, self.amp, self.tta_flips, self.slice_batch = window, amp, tta_flips, slice_batch
        self.device = None if device is None else torch.device(device)
        self.sliding = SlidingWindowInferer(
            roi_size=image_size_2d(roi_size or image_size),
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
        )

    def __call__(
        self, inputs: Tensor, network: Network, *args: Any, task: int | Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Segment `inputs` for `task`.

        Args:
            inputs: (B, 3, H, W) or (B, 3, H, W, D), ImageNet-normalised.
            network: called with (image, task), returns logits (B, 1, H, W).
            task: row of the task, an int, 0-d or (B,).

        Returns:
            probabilities, float32, (B, 1, H, W) or (B, 1, H, W, D).

        Raises:
            ValueError: no task, or inputs of another shape.
        """
        rows = torch.as_tensor(_required(task), device=inputs.device).reshape(-1).expand(inputs.shape[0])
        image = plain_tensor(inputs)
        if image.ndim == 4:
            return self._slices(image, network, rows)
        if image.ndim != 5:
            raise ValueError(f"inputs must be (B, 3, H, W) or (B, 3, H, W, D), got shape {tuple(image.shape)}.")
        result = image.new_empty((image.shape[0], 1, *image.shape[2:]), dtype=torch.float32)
        for b in range(image.shape[0]):
            for start in range(0, image.shape[4], self.slice_batch):
                part = slice(start, min(start + self.slice_batch, image.shape[4]))
                slices = image[b, :, :, :, part].permute(3, 0, 1, 2)  # (3, H, W, d) -> (d, 3, H, W)
                probabilities = self._slices(slices, network, rows[b].expand(slices.shape[0]))
                result[b, 0, :, :, part] = probabilities[:, 0].permute(1, 2, 0)
        return result

    def _slices(self, image: Tensor, network: Network, task: Tensor) -> Tensor:
        """(N, 3, H, W), (N,) -> probabilities (N, 1, H, W)."""
        home = image.device
        image, task = image.to(self.device or home), task.to(self.device or home)
        flips: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)] if self.tta_flips else [()]
        total = torch.zeros(())
        for dims in flips:
            total = total.to(image.device) + self._whole_or_windows(image.flip(dims), network, task).flip(dims)
        return (total / len(flips)).to(home)

    def _whole_or_windows(self, image: Tensor, network: Network, task: Tensor) -> Tensor:
        if self.window == "none":
            resized = resize_antialiased(image, self.image_size)
            with autocast(image.device, self.amp, network):
                logits = network(resized, task)
            return resize_antialiased(logits.float().sigmoid(), image.shape[-2:])

        # one slice at a time: the patches of a window batch then share their task
        return torch.cat([self._windows(image[i : i + 1], network, task[i]) for i in range(image.shape[0])])

    def _windows(self, image: Tensor, network: Network, row: Tensor) -> Tensor:
        def bound(patches: Tensor) -> Tensor:
            with autocast(image.device, self.amp, network):
                logits: Tensor = network(patches, row.expand(patches.shape[0]))
            return logits.float().sigmoid()

        probabilities: Tensor = self.sliding(image, bound)
        return probabilities


def resize_antialiased(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly, averaging when shrinking, as the training transform does."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x.float(), size=tuple(size), mode="bilinear", antialias=True)
