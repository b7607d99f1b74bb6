"""Inference with a task: whole pictures, slices of volumes, sliding windows, training outputs.

MONAI's `SliceInferer` drops extra arguments, and its `SlidingWindowInferer` passes them on unsliced, so a task would
not reach the network, or reach it with the wrong length. These inferers bind the task to the network first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from monai_tpseg.inferers.memory import largest_batch
from monai_tpseg.inferers.prefetch import prefetch
from monai_tpseg.inferers.tissue import tissue_slices
from monai_tpseg.networks.fast.inference_form import segment_several
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from monai_tpseg.networks.layers import plain_tensor, to_device, with_meta_of
from monai_tpseg.networks.task import row_numbers
from monai_tpseg.words import choose

__all__ = [
    "Amp",
    "DeepSupervisionInferer",
    "TaskInferer",
    "Window",
    "autocast",
    "image_size_2d",
    "probabilities",
    "resize_antialiased",
]

Amp = Literal["none", "bf16", "fp16"]
Window = Literal["none", "sliding"]
Network = Callable[..., Any]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: Amp, network: object = None) -> torch.autocast:
    """Return the autocast context of one of "none", "bf16", "fp16" on `device`.

    A network in its fast form has its own precision and runs without autocast.
    """
    check_amp(amp)
    fast = isinstance(network, InferenceNetwork)
    return torch.autocast(device.type, dtype=_DTYPES.get(amp, torch.bfloat16), enabled=amp != "none" and not fast)


def check_amp(amp: object) -> Amp:
    """Return `amp`, checked.

    Raises:
        ValueError: it is none of "none", "bf16", "fp16".
    """
    choices: tuple[Amp, ...] = get_args(Amp)
    for one in choices:
        if amp == one:
            return one
    raise ValueError(f"Unknown amp {amp!r}; {choose(amp, choices)}.")


def image_size_2d(image_size: int | Sequence[int], name: str = "image_size") -> tuple[int, int]:
    """Return (H, W) of an int (a square) or a pair, checked to be divisible by 32.

    Args:
        image_size: to check.
        name: of the argument, for the message.

    Raises:
        ValueError: another form, or not divisible by 32.
    """
    sizes = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sizes) != 2 or any(not isinstance(s, int) or s < 32 or s % 32 for s in sizes):
        raise ValueError(f"{name} must be one or two multiples of 32, got {image_size}.")
    return sizes[0], sizes[1]


def _required(task: int | Tensor | None) -> Tensor:
    if task is None:
        raise ValueError("Inference has no default task: pass task=<row of the task> (see TaskToIndexd).")
    return row_numbers(task)


class DeepSupervisionInferer(Inferer):
    """Calls the network for training, with the task and for all of its outputs.

    Args:
        amp: run the forward pass under autocast, "none", "bf16" or "fp16".

    Raises:
        ValueError: another `amp`.
    """

    def __init__(self, amp: Amp = "none") -> None:
        self.amp = check_amp(amp)

    def __call__(self, inputs: Tensor, network: Network, *args: Any, task: Any = None, **kwargs: Any) -> Any:
        """Return `network(inputs, task, deep_supervision=True)`; inputs (B, 3, H, W), task (B,)."""
        with autocast(inputs.device, self.amp):
            return network(plain_tensor(inputs), _required(task), deep_supervision=True)


class TaskInferer(Inferer):
    """Lesion probabilities of pictures and volumes at their own size, for one task or several.

    A picture (B, 3, H, W) is one slice; a volume (B, 3, H, W, D) is D slices, run in batches of `slice_batch`, so
    memory grows with the batch, not with the volume. "auto" fits as many as possible into `memory_mb`, based on the
    needs of one slice (`largest_batch`); with windows, which have their own batch, it takes one slice at a time. While
    the network runs on a batch, the next is sent to the device and resized. With `window="none"`, whole slices are
    resized to `image_size`, and their probabilities back. With `window="sliding"`, patches of `roi_size` cover the
    slice at its own scale, zero-padded if smaller; use it for weights trained on patches of that scale.

    Args:
        image_size: (H, W) of the network's input, one or two multiples of 32.
        window: "none" or "sliding".
        roi_size: patch of the sliding window, one or two multiples of 32; by default `image_size`.
        overlap: of neighbouring patches, in [0, 1).
        sw_batch_size: patches that run together.
        slice_batch: slices that run together, or "auto".
        memory_mb: MiB of intermediate tensors that "auto" allows; it leaves weights and volume out.
        skip_empty: set slices of a volume without tissue to probability 0 without running them; see `tissue_slices`
            for the rule and its limits.
        half: store the probabilities of a volume in float16, at half the memory; each is rounded by at most 2^-12.
            Windows are still summed in float32, one slice at a time.
        amp: "none", "bf16" or "fp16"; a network in its fast form has its own precision.
        tta_flips: average the probabilities over the four flips of the slice.
        device: for the network's input; probabilities are returned on the device of the inputs. Default: that of the
            inputs. If set, a volume may stay in host memory (see `PrepareTaskBatch`).

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
        slice_batch: int | Literal["auto"] = 8,
        amp: Amp = "none",
        tta_flips: bool = False,
        device: str | torch.device | None = None,
        memory_mb: float = 1024,
        skip_empty: bool = False,
        half: bool = False,
    ) -> None:
        if window not in ("none", "sliding"):
            raise ValueError(f"Unknown window {window!r}; {choose(window, ('none', 'sliding'))}.")
        if slice_batch != "auto":
            _check_slice_batch(slice_batch)
        if not memory_mb > 0:
            raise ValueError(f"memory_mb must be more than 0 MiB, got {memory_mb}.")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must lie in [0, 1), got {overlap}.")
        if not isinstance(sw_batch_size, int) or sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be a whole number of at least 1, got {sw_batch_size}.")
        for name, flag in (("tta_flips", tta_flips), ("skip_empty", skip_empty), ("half", half)):
            if not isinstance(flag, bool):
                raise ValueError(f"{name} must be True or False, got {flag!r}.")
        self.image_size, self.amp = image_size_2d(image_size), check_amp(amp)
        self.window, self.tta_flips, self.slice_batch = window, tta_flips, slice_batch
        self.device = None if device is None else torch.device(device)
        self.memory_mb, self.skip_empty, self.half = memory_mb, skip_empty, half
        self._fitting: dict[tuple[int, ...], int] = {}
        self.sliding = SlidingWindowInferer(
            roi_size=self.image_size if roi_size is None else image_size_2d(roi_size, "roi_size"),
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
        )

    def __call__(
        self,
        inputs: Tensor,
        network: Network,
        *args: Any,
        task: int | Tensor | None = None,
        slice_batch: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Segment `inputs` for `task`.

        Several tasks run as in `segment_several`: shared parts are computed once, and each result equals that of a
        separate call.

        Args:
            inputs: (B, 3, H, W) or (B, 3, H, W, D), ImageNet-normalised.
            network: called with (image, task), returns logits (B, 1, H, W).
            task: row of the task, an int, 0-d or (B,); or rows (B, T) or (1, T), T different tasks for every input.
                On the CPU, unless the host is to wait for the device.
            slice_batch: overrides the inferer's own.

        Returns:
            probabilities, float32 (see `half`), (B, T, H, W) or (B, T, H, W, D), where T is 1 for one task; with the
            metadata of `inputs`, for `Invertd` and `SaveImaged`.

        Raises:
            ValueError: no task, rows that do not fit the inputs, inputs of another shape, or a `slice_batch` below 1.
        """
        image = plain_tensor(inputs)
        rows = _rows(task, image)
        if image.ndim not in (4, 5) or not image.numel():
            raise ValueError(f"inputs must be (B, 3, H, W) or (B, 3, H, W, D), got shape {tuple(image.shape)}.")
        if slice_batch is not None:
            _check_slice_batch(slice_batch)
        run = self._pictures if image.ndim == 4 else partial(self._volumes, batch=slice_batch)
        return with_meta_of(inputs, run(image, network, rows))

    def _volumes(self, image: Tensor, network: Network, rows: Tensor, batch: int | None) -> Tensor:
        dtype = torch.float16 if self.half else torch.float32
        result = image.new_empty((len(image), rows.shape[1], *image.shape[2:]), dtype=dtype)
        batch = batch or self.slices_together(network, (image.shape[2], image.shape[3]), int(rows[0, 0]))
        for b in range(len(image)):
            self._volume(image[b], network, rows[b], result[b], batch)
        return result

    def slices_together(self, network: Network, size: tuple[int, int], row: int = 0) -> int:
        """Return the slice batch size; "auto" is measured once per size, on a slice of zeros.

        Args:
            network: as in a call; the inferer is for one network.
            size: (H, W) of a slice.
            row: of any task of the network.
        """
        if self.slice_batch != "auto":
            return self.slice_batch
        if self.window == "sliding":
            return 1

        def run(slices: int) -> None:
            image = self._prepare(torch.zeros(slices, 3, *size))
            self._probabilities(image, size, network, torch.full((slices, 1), row))

        if size not in self._fitting:
            with torch.no_grad():
                self._fitting[size] = largest_batch(run, self.memory_mb)
        return self._fitting[size]

    def _pictures(self, image: Tensor, network: Network, rows: Tensor) -> Tensor:
        if rows.shape[1] > 1 and bool((rows != rows[0]).any()):
            each = range(len(image))
            return torch.cat([self._pictures(image[b : b + 1], network, rows[b : b + 1]) for b in each])
        return self._probabilities(self._prepare(image), image.shape[-2:], network, rows).to(image.device)

    def _volume(self, image: Tensor, network: Network, row: Tensor, result: Tensor, batch: int) -> None:
        """Segment (3, H, W, D) for the tasks `row` (T,) into `result` (T, H, W, D)."""
        numbers = torch.arange(image.shape[3], device=image.device)
        if self.skip_empty:
            result.zero_()
            numbers = numbers[tissue_slices(image)]
        parts = torch.split(numbers, batch) if len(numbers) else ()
        # (3, H, W, d) -> (d, 3, H, W)
        for part, slices in prefetch(parts, lambda part: self._prepare(image[..., part].permute(3, 0, 1, 2))):
            rows = row.expand(len(slices), -1)
            found = self._probabilities(slices, image.shape[1:3], network, rows)
            result[..., part] = found.permute(1, 2, 3, 0).to(result)

    def _prepare(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) as the network takes it, or as the windows are cut from it; where it runs."""
        image = to_device(image, self.device or image.device)
        return resize_antialiased(image, self.image_size) if self.window == "none" else image

    def _probabilities(self, image: Tensor, size: Sequence[int], network: Network, rows: Tensor) -> Tensor:
        """(N, 3, h, w) from `_prepare`, (N, T) -> probabilities (N, T, *size)."""
        run = self._whole if self.window == "none" else self._windows
        total = run(image, size, network, rows)
        if not self.tta_flips:
            return total
        for dims in ((-1,), (-2,), (-2, -1)):
            total = total + run(image.flip(dims), size, network, rows).flip(dims)
        return total / 4

    def _whole(self, image: Tensor, size: Sequence[int], network: Network, rows: Tensor) -> Tensor:
        return probabilities(self._logits(network, image, rows), size)

    def _windows(self, image: Tensor, size: Sequence[int], network: Network, rows: Tensor) -> Tensor:
        """Run one slice at a time, so that the patches of a window batch share their task."""

        def found(one: Tensor, row: Tensor) -> Tensor:
            result: Tensor = self.sliding(
                one, lambda patches: self._logits(network, patches, row.expand(len(patches), -1)).sigmoid()
            )
            return result

        return torch.cat([found(image[i : i + 1], rows[i : i + 1]) for i in range(len(image))])

    def _logits(self, network: Network, image: Tensor, rows: Tensor) -> Tensor:
        with autocast(image.device, self.amp, network):
            if rows.shape[1] > 1:
                return segment_several(network, image, rows[0].tolist()).float()
            # the fast form asks the host which rows they are
            row = rows[:, 0] if isinstance(network, InferenceNetwork) else to_device(rows[:, 0], image.device)
            logits: Tensor = network(image, row)
        return logits.float()


def _check_slice_batch(slice_batch: object) -> None:
    if not isinstance(slice_batch, int) or slice_batch < 1:
        raise ValueError(f"slice_batch must be at least 1, or 'auto', got {slice_batch}.")


def _rows(task: int | Tensor | None, image: Tensor) -> Tensor:
    """Return the task rows of each input, (B, T), on the host, for control flow."""
    rows = _required(task).cpu()
    if rows.ndim < 2:
        rows = rows.reshape(-1, 1)
    if rows.ndim > 2 or not rows.shape[1] or rows.shape[0] not in (1, len(image)):
        raise ValueError(f"task must be one row, (B,) or (B, T) for B = {len(image)}, got shape {tuple(rows.shape)}.")
    return rows.expand(len(image), -1)


def probabilities(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the probabilities of logits (N, T, h, w) at the size (H, W) of the image, (N, T, H, W).

    Each channel is resized separately, so the result of a task does not depend on the others.
    """
    return torch.cat([resize_antialiased(one, size) for one in torch.split(logits.sigmoid(), 1, dim=1)], dim=1)


def resize_antialiased(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly, averaging when shrinking, as the training transform does."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x.float(), size=tuple(size), mode="bilinear", antialias=True)
